/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_INDEX_ROWS_H
#define SHARDFS_INDEX_ROWS_H

/*
 * The rows of the index as the rest of the program sees them.  Plain values:
 * no row owns memory, except where a list says so.
 */

#include "crypto/mac.h"
#include "util/buf.h"
#include "util/clock.h"
#include "util/mem.h"

#include <stdbool.h>

#define INO_ROOT      1ull
#define INO_MAX       ((1ull << INO_BITS) - 1) /* the highest that is given out */
#define NAME_LEN_MAX  255
#define XATTR_LEN_MAX (64 * 1024)
#define LINK_LEN_MAX  4095

/*
 * Numbers of inodes in snapshots: the snapshot's above, that of the inode below.  So they are as
 * unique, and as lasting, as the two.  SNAPSHOT_NO_NONE is no snapshot's: its numbers are those of
 * the directories that hold them (store/snapshot.h).
 */
#define INO_BITS	 40
#define SNAPSHOT_NO_MAX	 ((1ull << 23) - 2)
#define SNAPSHOT_NO_NONE (SNAPSHOT_NO_MAX + 1)

#define INO_CONTROL	 1ull /* /.shardfs */
#define INO_SNAPSHOTS	 2ull /* /.shardfs/snapshots */

static inline uint64_t ino_in_snapshot(uint64_t snapshot_no, uint64_t ino)
{
	return snapshot_no << INO_BITS | ino;
}
static inline uint64_t ino_snapshot_no(uint64_t ino) /* 0: of no snapshot */
{
	return ino >> INO_BITS;
}

/* What a number in a snapshot is the number of, outside of it. */
static inline uint64_t ino_without_snapshot(uint64_t ino)
{
	return ino & ((1ull << INO_BITS) - 1);
}

static inline bool ino_is_holder(uint64_t ino)
{
	return ino_snapshot_no(ino) == SNAPSHOT_NO_NONE;
}

/* inode_row.flags */
#define INODE_IMMUTABLE   BIT(0) /* chattr +i */
#define INODE_APPEND      BIT(1) /* chattr +a */
#define INODE_XATTR       BIT(2) /* has at least one extended attribute (never unset while one is left) */
#define INODE_ACL         BIT(3) /* has system.posix_acl_access */
#define INODE_ACL_DEFAULT BIT(4) /* has system.posix_acl_default */
#define INODE_CAPABILITY  BIT(5) /* has security.capability */
#define INODE_SPARSE      BIT(6) /* may hold holes: blocks are counted from extents */
#define INODE_ORPHAN      BIT(7) /* no name any more; reclaimed when nobody holds it */
#define INODE_NODUMP      BIT(8) /* chattr +d, kept only */
#define INODE_NOATIME     BIT(9) /* chattr +A, kept only */
#define INODE_LOCKED      BIT(10) /* has LOCK_XATTR_NAME */

/* Reserved attribute: until when nobody may change the inode, as RFC 3339 in UTC. */
#define LOCK_XATTR_NAME "user.shardfs.lock-until"

struct inode_row {
	uint64_t ino;  /* 1 is the root; never reused */
	uint32_t mode; /* type and permissions, as st_mode */
	uint32_t uid, gid;
	uint32_t nlink;
	uint64_t rdev;
	uint64_t size; /* the recorded size: never ahead of the extents' bytes */
	struct wall_time atime, mtime, ctime, btime;
	uint32_t flags;
	uint64_t parent;      /* directory: its parent; file: the directory of one of its names, a hint */
	uint64_t policy_root; /* directory where the policy in force was set; INO_ROOT at first */
	uint64_t birth;       /* sequence number of the record that wrote this row; set by apply */
};

struct dirent_row {
	uint64_t parent;
	uint64_t cookie; /* > 0; given once, never reused: the order of readdir */
	uint64_t ino;
	uint32_t type; /* DT_* */
	uint8_t name_len;
	char name[NAME_LEN_MAX + 1];
};

/* Bytes [off, off+len) of a file are bytes [chunk_off, chunk_off+len) of a decoded chunk. */
struct extent_row {
	uint64_t ino;
	uint64_t off;
	uint32_t len; /* > 0 */
	uint32_t chunk_off;
	uint64_t chunk_no; /* 0: zeros that occupy space (fallocate) */
};

struct chunk_row {
	uint64_t chunk_no; /* >= 1 */
	struct chunk_id id;
	uint64_t shard_no;
	uint32_t record_no;  /* number of the record in its shard: the nonce */
	uint32_t off;        /* of the sealed record in the object */
	uint32_t stored_len; /* sealed bytes, tag included */
	uint32_t raw_len;    /* decoded bytes */
	uint64_t refs;       /* extents that name it; kept by apply */
};

struct shard_id { /* the name that providers see */
	uint8_t b[16];
};

enum shard_state { /* stored; see store/spool.c for the moves */
	SHARD_OPEN = 1,   /* being filled in the spool by this process */
	SHARD_SEALED = 2, /* has its footer; owes copies */
	SHARD_DURABLE = 3, /* left the spool */
	SHARD_CONDEMNED = 4,
	SHARD_GONE = 5,
};

struct shard_row {
	uint64_t shard_no; /* >= 1, never reused */
	struct shard_id id;
	uint32_t state;       /* enum shard_state */
	uint32_t key_epoch;   /* of the master key */
	uint64_t writer_epoch;
	uint64_t policy_root; /* class: whose policy decides its copies */
	uint32_t priority;    /* class */
	uint64_t object_len;  /* padded; 0 while open */
	uint32_t record_count;
	uint64_t live_bytes;  /* stored bytes of chunks with refs > 0; kept by apply */
	uint64_t total_bytes; /* stored bytes of all its chunks; kept by apply */
	int64_t sealed_sec;   /* wall clock when sealed; once condemned: when that was */
	uint8_t mac[32];      /* of the whole object; zeros while open */
};

enum copy_state { /* DESIGN section 2 */
	COPY_NONE = 0,
	COPY_PENDING = 1,
	COPY_UPLOADING = 2, /* in memory only; stored as pending */
	COPY_PRESENT = 3,
	COPY_VERIFIED = 4,
	COPY_MISSING = 5,
	COPY_CORRUPT = 6,
	COPY_QUARANTINED = 7,
	COPY_DELETING = 8,
};

struct copy_row { /* local table */
	uint64_t shard_no;
	uint32_t provider_no;
	uint32_t state;
	int64_t changed_sec;  /* when it came into this state */
	int64_t verified_sec; /* last read back and authenticated; 0: never */
};

/* A shard that has valid copies, and when the one not read back for longest was; 0: never. */
struct verified_row {
	int64_t verified_sec;
	uint64_t shard_no;
};

struct verified_count {
	uint64_t shards; /* that have a valid copy */
	uint64_t since;	 /* of these: all of their valid copies were verified at or after that time */
	int64_t oldest_sec; /* of all; 0: never, or no shard */
};

struct provider_row {
	uint32_t provider_no; /* >= 1, never reused */
	char name[64], type[16], vendor[64], region[64], role[16];
	uint32_t is_forgotten;
};

struct policy_row {
	uint64_t root;  /* directory where it was set */
	char text[256]; /* canonical form, see store/policy.h */
	uint64_t version;
};

struct snapshot_row {
	uint64_t snapshot_no;
	char name[NAME_LEN_MAX + 1]; /* "": it is being deleted, and cannot be read any more */
	uint64_t root; /* directory that it shows */
	uint64_t seq;  /* sees rows born at or before, and not dead then */
	int64_t created_sec;
	uint64_t files, directories, bytes; /* below root, when it was made; set by apply */
};

/* A place of the history with rows that no snapshot sees any more: see CHANGE_HISTORY_DROP. */
struct old_row {
	uint64_t ino, at;
};

/* One entry of the audit log; see store/audit.h. */
#define AUDIT_BODY_LEN_MAX 16384u
struct audit_row {
	uint64_t audit_no; /* from 1, without gaps */
	struct wall_time time;
	uint8_t mac[32];   /* of the one before and this one */
	struct bytes body; /* JSON object, 1 .. AUDIT_BODY_LEN_MAX; borrowed */
};

/* Growable lists of rows, owned by the caller; X_list_release. */
#define ROW_LIST(T)                                                                                \
	struct T##_list {                                                                          \
		struct T##_row *rows;                                                              \
		size_t count, capacity;                                                            \
	};                                                                                         \
	int T##_list_add(struct T##_list *list, const struct T##_row *row); /* -ENOMEM */          \
	void T##_list_release(struct T##_list *list)

ROW_LIST(dirent);
ROW_LIST(extent);
ROW_LIST(chunk);
ROW_LIST(shard);
ROW_LIST(copy);
ROW_LIST(verified);
ROW_LIST(provider);
ROW_LIST(policy);
ROW_LIST(snapshot);
ROW_LIST(old);
#define ROW_LIST_INIT {0}

#define SHARD_ID_HEX_SIZE 33
struct shard_id_hex {
	char s[SHARD_ID_HEX_SIZE];
};
struct shard_id_hex shard_id_hex(const struct shard_id *id);

#endif
