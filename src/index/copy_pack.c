/* SPDX-License-Identifier: Apache-2.0 */
#include "index/copy_pack.h"

#include "util/wire.h"

#include <errno.h>

#define EVER_VERIFIED 0x80

static uint64_t zigzag(uint64_t difference)
{
	return (difference << 1) ^ (0 - (difference >> 63));
}

static uint64_t unzigzag(uint64_t v)
{
	return (v >> 1) ^ (0 - (v & 1));
}

static uint32_t stored_state(uint32_t state)
{
	return state == COPY_UPLOADING ? COPY_PENDING : state;
}

/* Differences are taken modulo 2^64, so that no time can overflow them. */
int copy_pack(const struct copy_list *copies, struct buf *out)
{
	uint64_t changed_before = COPY_PACK_BASE_SEC;
	uint32_t provider_before = 0;
	int r = 0;

	for (size_t i = 0; i < copies->count && r == 0; i++) {
		const struct copy_row *copy = &copies->rows[i];
		uint64_t changed = (uint64_t)copy->changed_sec;
		bool is_verified = copy->verified_sec != 0;

		r = wire_put_varint(out, copy->provider_no - provider_before);
		if (r == 0)
			r = wire_put_u8(out, (uint8_t)(stored_state(copy->state) |
						       (is_verified ? EVER_VERIFIED : 0)));
		if (r == 0)
			r = wire_put_varint(out, zigzag(changed - changed_before));
		if (r == 0 && is_verified)
			r = wire_put_varint(out, zigzag((uint64_t)copy->verified_sec - changed));
		provider_before = copy->provider_no;
		changed_before = changed;
	}
	return r;
}

int copy_unpack(uint64_t shard_no, struct bytes packed, struct copy_list *out)
{
	struct wire_reader reader = wire_reader_of(packed);
	uint64_t changed = COPY_PACK_BASE_SEC, provider_no = 0;

	while (wire_left(&reader) > 0) {
		struct copy_row copy = {.shard_no = shard_no};
		uint64_t distance = wire_get_varint(&reader);
		uint8_t state = wire_get_u8(&reader);

		changed += unzigzag(wire_get_varint(&reader));
		copy.changed_sec = (int64_t)changed;
		copy.state = state & ~EVER_VERIFIED;
		if (state & EVER_VERIFIED)
			copy.verified_sec =
				(int64_t)(changed + unzigzag(wire_get_varint(&reader)));
		if (wire_reader_check(&reader) < 0 || distance == 0 || distance > UINT32_MAX ||
		    provider_no + distance > UINT32_MAX || copy.state > COPY_DELETING)
			return -EBADMSG;
		provider_no += distance;
		copy.provider_no = (uint32_t)provider_no;
		if (copy_list_add(out, &copy) < 0)
			return -ENOMEM;
	}
	return wire_reader_end(&reader);
}

uint32_t copy_states(const struct copy_list *copies)
{
	uint32_t states = 0;

	for (size_t i = 0; i < copies->count; i++)
		states |= BIT(stored_state(copies->rows[i].state));
	return states;
}

int64_t copy_oldest_verified(const struct copy_list *copies)
{
	int64_t oldest = INT64_MAX;

	for (size_t i = 0; i < copies->count; i++) {
		const struct copy_row *copy = &copies->rows[i];

		if (copy->state == COPY_PRESENT || copy->state == COPY_VERIFIED)
			oldest = MIN(oldest, copy->verified_sec);
	}
	return oldest;
}

int copy_list_put(struct copy_list *copies, const struct copy_row *copy)
{
	size_t at = 0;
	int r;

	while (at < copies->count && copies->rows[at].provider_no < copy->provider_no)
		at++;
	if (at < copies->count && copies->rows[at].provider_no == copy->provider_no) {
		copies->rows[at] = *copy;
		return 0;
	}
	r = copy_list_add(copies, copy);
	if (r < 0)
		return r;
	memmove(&copies->rows[at + 1], &copies->rows[at],
		(copies->count - 1 - at) * sizeof(*copies->rows));
	copies->rows[at] = *copy;
	return 0;
}

void copy_list_del(struct copy_list *copies, uint32_t provider_no)
{
	for (size_t i = 0; i < copies->count; i++) {
		if (copies->rows[i].provider_no != provider_no)
			continue;
		memmove(&copies->rows[i], &copies->rows[i + 1],
			(copies->count - 1 - i) * sizeof(*copies->rows));
		copies->count--;
		return;
	}
}
