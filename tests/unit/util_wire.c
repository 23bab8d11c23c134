/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/rng.h"
#include "util/mem.h"
#include "util/wire.h"

#include <criterion/criterion.h>
#include <errno.h>

Test(util_wire, bytes_are_little_endian)
{
	static const uint8_t expected[] = {0x01, 0x03, 0x02, 0x07, 0x06, 0x05, 0x04, 0x0f,
					   0x0e, 0x0d, 0x0c, 0x0b, 0x0a, 0x09, 0x08, 0xfe,
					   0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xac,
					   0x02, 0x03, 'a',  'b',  'c'};
	AUTO(buf) buf = BUF_INIT;
	uint8_t fixed[8];

	cr_assert_eq(wire_put_u8(&buf, 1), 0);
	cr_assert_eq(wire_put_u16(&buf, 0x0203), 0);
	cr_assert_eq(wire_put_u32(&buf, 0x04050607), 0);
	cr_assert_eq(wire_put_u64(&buf, 0x08090a0b0c0d0e0f), 0);
	cr_assert_eq(wire_put_i64(&buf, -2), 0);
	cr_assert_eq(wire_put_varint(&buf, 300), 0);
	cr_assert_eq(wire_put_blob(&buf, bytes_of_str("abc")), 0);
	cr_assert_eq(buf.len, sizeof(expected));
	cr_assert_eq(memcmp(buf.ptr, expected, sizeof(expected)), 0);

	wire_store_u32(fixed, 0x04050607);
	cr_assert_eq(memcmp(fixed, expected + 3, 4), 0);
	cr_assert_eq(wire_load_u32(fixed), 0x04050607);
	wire_store_u64(fixed, 0x08090a0b0c0d0e0f);
	cr_assert_eq(memcmp(fixed, expected + 7, 8), 0);
	cr_assert_eq(wire_load_u64(fixed), 0x08090a0b0c0d0e0f);
}

struct field {
	unsigned kind;
	uint64_t value;
};

static int put_field(struct buf *buf, const struct field *f)
{
	switch (f->kind) {
	case 0:
		return wire_put_u8(buf, (uint8_t)f->value);
	case 1:
		return wire_put_u16(buf, (uint16_t)f->value);
	case 2:
		return wire_put_u32(buf, (uint32_t)f->value);
	case 3:
		return wire_put_u64(buf, f->value);
	case 4:
		return wire_put_i64(buf, (int64_t)f->value);
	case 5:
		return wire_put_varint(buf, f->value);
	case 6:
		return wire_put_raw(buf, &f->value, f->value % 8);
	default:
		return wire_put_blob(buf, bytes_of(&f->value, f->value % 8));
	}
}

/* Reads a field; false when it is not what was put. */
static bool get_field(struct wire_reader *r, const struct field *f)
{
	uint8_t raw[8];
	struct bytes blob;

	switch (f->kind) {
	case 0:
		return wire_get_u8(r) == (uint8_t)f->value;
	case 1:
		return wire_get_u16(r) == (uint16_t)f->value;
	case 2:
		return wire_get_u32(r) == (uint32_t)f->value;
	case 3:
		return wire_get_u64(r) == f->value;
	case 4:
		return wire_get_i64(r) == (int64_t)f->value;
	case 5:
		return wire_get_varint(r) == f->value;
	case 6:
		wire_get_raw(r, raw, f->value % 8);
		return memcmp(raw, &f->value, f->value % 8) == 0;
	default:
		blob = wire_get_blob(r, 7);
		return blob.len == f->value % 8 &&
		       (blob.len == 0 || memcmp(blob.ptr, &f->value, blob.len) == 0);
	}
}

/* What was put is got; every cut is noticed, and after it all is zero. */
Test(util_wire, random_fields_make_the_round_trip_and_no_prefix_does)
{
	struct rng rng = rng_new();

	for (unsigned round = 0; round < 200; round++) {
		AUTO(buf) buf = BUF_INIT;
		struct field fields[20];
		struct wire_reader r;

		for (size_t i = 0; i < ARRAY_COUNT(fields); i++) {
			fields[i] = (struct field){.kind = (unsigned)rng_below(&rng, 8),
						   .value = rng_any_size(&rng)};
			cr_assert_eq(put_field(&buf, &fields[i]), 0);
		}
		r = wire_reader_of(buf_bytes(&buf));
		for (size_t i = 0; i < ARRAY_COUNT(fields); i++)
			cr_assert(get_field(&r, &fields[i]));
		cr_assert_eq(wire_reader_end(&r), 0);
		cr_assert_eq(wire_left(&r), 0);

		for (size_t cut = 0; cut < buf.len; cut++) {
			r = wire_reader_of(bytes_of(buf.ptr, cut));
			for (size_t i = 0; i < ARRAY_COUNT(fields); i++)
				get_field(&r, &fields[i]);
			cr_assert_eq(wire_reader_end(&r), -EBADMSG);
			cr_assert_eq(wire_reader_check(&r), -EBADMSG);
			cr_assert_eq(wire_get_u64(&r), 0);
			cr_assert_eq(wire_get_varint(&r), 0);
			cr_assert_eq(wire_get_view(&r, 0).len, 0);
		}
	}
}

static int varint_result(const char *bytes, size_t len)
{
	struct wire_reader r = wire_reader_of(bytes_of(bytes, len));

	wire_get_varint(&r);
	return wire_reader_end(&r);
}

Test(util_wire, only_the_shortest_varint_of_64_bits_is_read)
{
	AUTO(buf) buf = BUF_INIT;

	cr_assert_eq(wire_put_varint(&buf, UINT64_MAX), 0);
	cr_assert_eq(buf.len, 10);
	cr_assert_eq(varint_result((char *)buf.ptr, buf.len), 0);
	cr_assert_eq(varint_result("\x00", 1), 0);
	cr_assert_eq(varint_result("\x80\x00", 2), -EBADMSG);
	cr_assert_eq(varint_result("\xff\x80\x00", 3), -EBADMSG);
	cr_assert_eq(varint_result("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", 10), -EBADMSG);
	cr_assert_eq(varint_result("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11), -EBADMSG);
	cr_assert_eq(varint_result("", 0), -EBADMSG);
}

Test(util_wire, a_blob_over_its_limit_or_left_bytes_are_failures)
{
	struct wire_reader r = wire_reader_of(bytes_of("\x04" "abcd", 5));

	cr_assert_eq(wire_get_blob(&r, 3).len, 0);
	cr_assert_eq(wire_reader_end(&r), -EBADMSG);
	r = wire_reader_of(bytes_of("\x04" "abcd", 5));
	wire_get_u8(&r);
	cr_assert_eq(wire_left(&r), 4);
	cr_assert_eq(wire_reader_check(&r), 0);
	cr_assert_eq(wire_reader_end(&r), -EBADMSG);
	cr_assert_eq(wire_get_view(&r, SIZE_MAX).len, 0);
	cr_assert_eq(wire_reader_check(&r), -EBADMSG);
	r = wire_reader_of(bytes_of(NULL, 0));
	cr_assert_eq(wire_reader_end(&r), 0);
}

Test(util_wire, a_put_without_memory_changes_nothing)
{
	AUTO(buf) buf = BUF_INIT;
	uint8_t big[4096] = {0};

	cr_assert_eq(wire_put_u8(&buf, 1), 0);
	mem_fail_at(1);
	cr_assert_eq(wire_put_blob(&buf, bytes_of(big, sizeof(big))), -ENOMEM);
	cr_assert_eq(buf.len, 1);
}
