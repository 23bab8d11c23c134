# SPDX-License-Identifier: Apache-2.0
# Man pages in mdoc, one a line:  dist_man_MANS += man/shardctl.8
# Each is linted by `make check`.
dist_man_MANS += man/fsck.shardfs.8
dist_man_MANS += man/mkfs.shardfs.8
dist_man_MANS += man/shardctl.8
dist_man_MANS += man/shardfs-recover.8
dist_man_MANS += man/shardfs-ioctl.4
dist_man_MANS += man/shardfs-xattr.7
dist_man_MANS += man/shardfs-backend-dir.7
dist_man_MANS += man/shardfs.yaml.5
dist_man_MANS += man/shardfs-format.5
dist_man_MANS += man/mount.shardfs.8
dist_man_MANS += man/shardfs.8
