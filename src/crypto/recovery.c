/* SPDX-License-Identifier: Apache-2.0 */
#include "crypto/recovery.h"

#include "crypto/mac.h"
#include "crypto/shamir.h"
#include "util/err.h"
#include "util/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/*
 * SRK1: key (32), then SHA-256("shardfs recovery key" 0 key), of which as many bits as fill 56
 * characters (24).
 * SSK1: threshold, count, index (1 each), zero, set (8), data (40), the first 4 bytes of
 * SHA-256("shardfs share" 0 all before).  The data is a share of the key and 8 bytes of
 * SHA-256("shardfs shared key" 0 set key), so that the key says whether the shares were right.
 */

#define RECOVERY_PACKED (RECOVERY_KEY_BYTES + 3)
#define SHARE_HEAD	(4 + SHARE_SET_BYTES)
#define SHARE_PACKED	(SHARE_HEAD + SHARE_DATA_BYTES + 4)
#define SHARE_FILE_MAX	((size_t)4096)

static const char alphabet[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/* ---- base 32 ---- */

static void print_groups(const char *prefix, const uint8_t *src, size_t len, char *text)
{
	size_t chars = (len * 8 + 4) / 5, at = 0;
	unsigned bits = 0, have = 0;
	char *out = text + strlen(prefix);

	memcpy(text, prefix, strlen(prefix));
	for (size_t i = 0; i < chars; i++) {
		if (have < 5) {
			bits = (bits << 8 | (at < len ? src[at] : 0)) & 0xffff;
			at++;
			have += 8;
		}
		have -= 5;
		if (i % 4 == 0)
			*out++ = '-';
		*out++ = alphabet[bits >> have & 31];
	}
	*out = 0;
}

static int value_of(char c)
{
	const char *found;

	if (c >= 'a' && c <= 'z')
		c = (char)(c - 'a' + 'A');
	if (c == 'O')
		c = '0';
	if (c == 'I' || c == 'L')
		c = '1';
	found = c ? strchr(alphabet, c) : NULL;
	return found ? (int)(found - alphabet) : -1;
}

static bool is_space(uint8_t c)
{
	return c == ' ' || c == '-' || c == '\t' || c == '\n' || c == '\r';
}

/* Behind the prefix; SIZE_MAX: it is not there. */
static size_t find_prefix(struct bytes typed, const char *prefix)
{
	size_t at = 0;

	for (size_t i = 0; i < typed.len; i++) {
		uint8_t c = typed.ptr[i];

		if (is_space(c))
			continue;
		if (c >= 'a' && c <= 'z')
			c = (uint8_t)(c - 'a' + 'A');
		if (c != (uint8_t)prefix[at])
			return SIZE_MAX;
		if (!prefix[++at])
			return i + 1;
	}
	return SIZE_MAX;
}

/* Exactly len bytes, and zeros in the bits that are left of the last character. */
static int scan_groups(struct bytes typed, const char *prefix, uint8_t *out, size_t len)
{
	size_t at = find_prefix(typed, prefix), chars = 0, wanted = (len * 8 + 4) / 5;
	unsigned bits = 0, have = 0;

	if (at == SIZE_MAX)
		return -EBADMSG;
	for (; at < typed.len; at++) {
		int value;

		if (is_space(typed.ptr[at]))
			continue;
		value = value_of((char)typed.ptr[at]);
		if (value < 0 || ++chars > wanted)
			return -EBADMSG;
		bits = (bits << 5 | (unsigned)value) & 0xffff;
		have += 5;
		if (have >= 8 && len > 0) {
			have -= 8;
			*out++ = (uint8_t)(bits >> have);
			len--;
		}
	}
	if (chars != wanted || len > 0 || (bits & ((1u << have) - 1)) != 0)
		return -EBADMSG;
	return 0;
}

/* ---- checksums ---- */

static int digest_of(const char *label, struct bytes a, struct bytes b, struct digest *out)
{
	uint8_t *joined;
	size_t label_len = strlen(label) + 1, size = label_len + a.len + b.len;
	int r;

	joined = secret_alloc(size);
	if (!joined)
		return -ENOMEM;
	memcpy(joined, label, label_len);
	memcpy(joined + label_len, a.ptr, a.len);
	if (b.len > 0)
		memcpy(joined + label_len + a.len, b.ptr, b.len);
	r = sha256(bytes_of(joined, size), out);
	secret_free(joined, size);
	return r;
}

/* ---- the recovery key ---- */

static int recovery_pack(const uint8_t key[RECOVERY_KEY_BYTES], uint8_t packed[RECOVERY_PACKED])
{
	struct bytes none = {0};
	struct digest digest;
	int r = digest_of("shardfs recovery key", bytes_of(key, RECOVERY_KEY_BYTES), none,
			  &digest);

	memcpy(packed, key, RECOVERY_KEY_BYTES);
	memcpy(packed + RECOVERY_KEY_BYTES, digest.b, RECOVERY_PACKED - RECOVERY_KEY_BYTES);
	mem_wipe(&digest, sizeof(digest));
	return r;
}

void recovery_key_print(const uint8_t key[RECOVERY_KEY_BYTES], char *text)
{
	uint8_t packed[RECOVERY_PACKED];

	text[0] = 0;
	if (recovery_pack(key, packed) == 0)
		print_groups("SRK1", packed, sizeof(packed), text);
	mem_wipe(packed, sizeof(packed));
}

int recovery_key_make(char *text)
{
	uint8_t key[RECOVERY_KEY_BYTES];
	int r = crypto_random(key, sizeof(key));

	if (r == 0)
		recovery_key_print(key, text);
	mem_wipe(key, sizeof(key));
	return r == 0 && text[0] == 0 ? -EIO : r;
}

bool recovery_key_is_meant(struct bytes typed)
{
	return find_prefix(typed, "SRK1") != SIZE_MAX;
}

int recovery_key_parse(struct bytes typed, uint8_t key[RECOVERY_KEY_BYTES])
{
	uint8_t packed[RECOVERY_PACKED], right[RECOVERY_PACKED];
	int r = scan_groups(typed, "SRK1", packed, sizeof(packed));

	if (r == 0)
		r = recovery_pack(packed, right);
	if (r == 0 && mem_compare_secret(packed, right, sizeof(right)) != 0)
		r = -EBADMSG;
	if (r == 0)
		memcpy(key, packed, RECOVERY_KEY_BYTES);
	mem_wipe(packed, sizeof(packed));
	mem_wipe(right, sizeof(right));
	return r;
}

/* ---- shares ---- */

static int shared_data(const uint8_t set[SHARE_SET_BYTES], const uint8_t key[RECOVERY_KEY_BYTES],
		       uint8_t data[SHARE_DATA_BYTES])
{
	struct digest digest;
	int r = digest_of("shardfs shared key", bytes_of(set, SHARE_SET_BYTES),
			  bytes_of(key, RECOVERY_KEY_BYTES), &digest);

	memcpy(data, key, RECOVERY_KEY_BYTES);
	memcpy(data + RECOVERY_KEY_BYTES, digest.b, SHARE_DATA_BYTES - RECOVERY_KEY_BYTES);
	mem_wipe(&digest, sizeof(digest));
	return r;
}

int share_split(const uint8_t key[RECOVERY_KEY_BYTES], unsigned threshold, unsigned count,
		struct share *shares)
{
	uint8_t set[SHARE_SET_BYTES], *data;
	size_t size = (size_t)SHARE_DATA_BYTES * (SHARE_COUNT_MAX + 1);
	int r;

	if (threshold < 2 || threshold > count || count > SHARE_COUNT_MAX)
		return -EINVAL;
	data = secret_alloc(size);
	if (!data)
		return -ENOMEM;
	r = crypto_random(set, sizeof(set));
	if (r == 0)
		r = shared_data(set, key, data);
	if (r == 0)
		r = shamir_split(bytes_of(data, SHARE_DATA_BYTES), threshold, count,
				 data + SHARE_DATA_BYTES);
	for (unsigned i = 0; r == 0 && i < count; i++) {
		shares[i] = (struct share){.threshold = (uint8_t)threshold,
					   .count = (uint8_t)count,
					   .index = (uint8_t)(i + 1)};
		memcpy(shares[i].set, set, sizeof(set));
		memcpy(shares[i].data, data + (size_t)SHARE_DATA_BYTES * (i + 1),
		       SHARE_DATA_BYTES);
	}
	secret_free(data, size);
	return r;
}

static int share_pack(const struct share *share, uint8_t packed[SHARE_PACKED])
{
	struct bytes none = {0};
	struct digest digest;
	int r;

	packed[0] = share->threshold;
	packed[1] = share->count;
	packed[2] = share->index;
	packed[3] = 0;
	memcpy(packed + 4, share->set, SHARE_SET_BYTES);
	memcpy(packed + SHARE_HEAD, share->data, SHARE_DATA_BYTES);
	r = digest_of("shardfs share", bytes_of(packed, SHARE_PACKED - 4), none, &digest);
	memcpy(packed + SHARE_PACKED - 4, digest.b, 4);
	return r;
}

void share_print(const struct share *share, char *text)
{
	uint8_t packed[SHARE_PACKED];

	text[0] = 0;
	if (share_pack(share, packed) == 0)
		print_groups("SSK1", packed, sizeof(packed), text);
	mem_wipe(packed, sizeof(packed));
}

static int parse_line(struct bytes line, struct share *out)
{
	uint8_t packed[SHARE_PACKED], right[SHARE_PACKED];
	struct share share = {0};
	int r = scan_groups(line, "SSK1", packed, sizeof(packed));

	if (r == 0) {
		share.threshold = packed[0];
		share.count = packed[1];
		share.index = packed[2];
		memcpy(share.set, packed + 4, SHARE_SET_BYTES);
		memcpy(share.data, packed + SHARE_HEAD, SHARE_DATA_BYTES);
		r = share_pack(&share, right);
	}
	if (r == 0 && (mem_compare_secret(packed, right, sizeof(right)) != 0 ||
		       share.threshold < 2 || share.threshold > share.count ||
		       share.count > SHARE_COUNT_MAX || share.index < 1 ||
		       share.index > share.count))
		r = -EBADMSG;
	if (r == 0)
		*out = share;
	mem_wipe(packed, sizeof(packed));
	mem_wipe(right, sizeof(right));
	mem_wipe(&share, sizeof(share));
	return r;
}

int share_parse(struct bytes typed, struct share *out)
{
	while (typed.len > 0) {
		const uint8_t *end = memchr(typed.ptr, '\n', typed.len);
		size_t len = end ? (size_t)(end - typed.ptr) : typed.len;
		struct bytes line = bytes_of(typed.ptr, len);

		if (find_prefix(line, "SSK1") != SIZE_MAX)
			return parse_line(line, out);
		len += end ? 1 : 0;
		typed = bytes_of(typed.ptr + len, typed.len - len);
	}
	return -EBADMSG;
}

int share_combine(const struct share *shares, unsigned count, uint8_t key[RECOVERY_KEY_BYTES])
{
	uint8_t data[SHARE_DATA_BYTES], right[SHARE_DATA_BYTES], x[SHARE_COUNT_MAX];
	const uint8_t *ys[SHARE_COUNT_MAX];
	int r;

	if (count < 1 || count > SHARE_COUNT_MAX)
		return -EINVAL;
	for (unsigned i = 0; i < count; i++) {
		if (memcmp(shares[i].set, shares[0].set, SHARE_SET_BYTES) != 0 ||
		    shares[i].threshold != shares[0].threshold)
			return -EINVAL;
		for (unsigned k = 0; k < i; k++)
			if (shares[k].index == shares[i].index)
				return -EINVAL;
		x[i] = shares[i].index;
		ys[i] = shares[i].data;
	}
	if (count < shares[0].threshold)
		return -ENODATA;
	r = shamir_combine(x, ys, shares[0].threshold, SHARE_DATA_BYTES, data);
	if (r == 0)
		r = shared_data(shares[0].set, data, right);
	if (r == 0 && mem_compare_secret(data, right, sizeof(right)) != 0)
		r = -EKEYREJECTED;
	if (r == 0)
		memcpy(key, data, RECOVERY_KEY_BYTES);
	mem_wipe(data, sizeof(data));
	mem_wipe(right, sizeof(right));
	return r;
}

/* ---- from files ---- */

static int read_share(const char *path, struct share *out, struct buf *why)
{
	AUTO_FD fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	uint8_t *text = secret_alloc(SHARE_FILE_MAX);
	ssize_t n = fd < 0 || !text ? -1 : read(fd, text, SHARE_FILE_MAX);
	int r = text ? 0 : -ENOMEM;

	if (text && n < 0)
		r = -errno;
	if (r < 0) {
		buf_printf(why, "%s: cannot read the share: %s", path, err_sentence(r));
	} else {
		r = share_parse(bytes_of(text, (size_t)n), out);
		if (r < 0)
			buf_printf(why, "%s: is no share of a key, or a character of it is wrong",
				   path);
	}
	secret_free(text, SHARE_FILE_MAX);
	return r;
}

static void explain(int r, const struct share *shares, struct buf *why)
{
	if (r == -ENODATA)
		buf_printf(why, "%u shares are needed", shares[0].threshold);
	else if (r == -EINVAL)
		buf_printf(why, "the shares are not different ones of one set");
	else if (r == -EKEYREJECTED)
		buf_printf(why, "the shares do not fit together: one of them is not genuine; "
				"try with others");
}

int share_files_combine(const char *const *paths, unsigned count, char *text, struct buf *why)
{
	size_t size = SHARE_COUNT_MAX * sizeof(struct share) + RECOVERY_KEY_BYTES;
	struct share *shares;
	uint8_t *key;
	int r = 0;

	if (count < 1 || count > SHARE_COUNT_MAX) {
		buf_printf(why, "1 to %u shares", SHARE_COUNT_MAX);
		return -EINVAL;
	}
	shares = secret_alloc(size);
	if (!shares)
		return -ENOMEM;
	key = (uint8_t *)(shares + SHARE_COUNT_MAX);
	for (unsigned i = 0; i < count && r == 0; i++)
		r = read_share(paths[i], &shares[i], why);
	if (r == 0) {
		r = share_combine(shares, count, key);
		explain(r, shares, why);
	}
	if (r == 0)
		recovery_key_print(key, text);
	secret_free(shares, size);
	return r;
}
