# SPDX-License-Identifier: Apache-2.0
# Pattern and rules: tests/unit/util.mk.
