# SPDX-License-Identifier: Apache-2.0
# Man pages in mdoc, one a line:  dist_man_MANS += man/shardctl.8
# Each is linted by `make check`.
