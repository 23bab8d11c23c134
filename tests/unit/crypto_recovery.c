/* SPDX-License-Identifier: Apache-2.0 */
#include "crypto/recovery.h"
#include "tests/lib/hex.h"
#include "util/mem.h"

#include <criterion/criterion.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void fixed_key(uint8_t key[RECOVERY_KEY_BYTES])
{
	for (unsigned i = 0; i < RECOVERY_KEY_BYTES; i++)
		key[i] = (uint8_t)(i * 7 + 1);
}

/* Made once by version 1: this is on people's paper. */
#define GOLDEN_TEXT "SRK1-0440-Y5GX-4GNK-4EA0-8X75-AQ33-D9RQ-GZW6-HPA9-Q8N9-P2VV-XHEC-TFD1-HZ3G"

Test(crypto_recovery, the_text_is_what_is_on_paper)
{
	uint8_t key[RECOVERY_KEY_BYTES], again[RECOVERY_KEY_BYTES];
	char text[RECOVERY_TEXT_SIZE];

	fixed_key(key);
	recovery_key_print(key, text);
	cr_assert_str_eq(text, GOLDEN_TEXT);
	cr_assert_eq(recovery_key_parse(bytes_of_str(GOLDEN_TEXT), again), 0);
	cr_assert_arr_eq(key, again, sizeof(key));
}

/* Made by another program from shardfs-format(5): 1 of 3, any 2, set 00 .. 07. */
Test(crypto_recovery, a_share_is_what_the_format_says)
{
	static const char text[] =
		"SSK1-081G-2000-0410-6105-0R3G-0082-0C20-A1G7-104G-M2RC-"
		"1M70-Y40H-289H-858P-2WC1-J6GV-3GEH-W7S0-44H2-6915-4RKY-FWTJ-N0";
	char again[SHARE_TEXT_SIZE];
	struct share share;

	cr_assert_eq(share_parse(bytes_of_str(text), &share), 0);
	cr_assert(share.threshold == 2 && share.count == 3 && share.index == 1);
	for (uint8_t i = 0; i < SHARE_DATA_BYTES; i++)
		cr_assert(share.data[i] == i && (i >= SHARE_SET_BYTES || share.set[i] == i));
	share_print(&share, again);
	cr_assert_str_eq(again, text);
}

Test(crypto_recovery, it_may_be_typed_in_other_ways)
{
	char text[RECOVERY_TEXT_SIZE], typed[4 * RECOVERY_TEXT_SIZE];
	uint8_t key[RECOVERY_KEY_BYTES], again[RECOVERY_KEY_BYTES];

	for (unsigned round = 0; round < 200; round++) {
		size_t at = 0;

		cr_assert_eq(recovery_key_make(text), 0);
		cr_assert_eq(recovery_key_parse(bytes_of_str(text), key), 0);
		for (const char *c = text; *c; c++) {
			if (*c == '-') {
				typed[at++] = round & 1 ? ' ' : '\n';
				continue;
			}
			typed[at++] = *c == '0'	     ? 'o'
				      : *c == '1' && c > text + 4 ? (round & 1 ? 'l' : 'I')
						     : (char)tolower((unsigned char)*c);
		}
		typed[at] = 0;
		cr_assert(recovery_key_is_meant(bytes_of_str(typed)));
		cr_assert_eq(recovery_key_parse(bytes_of_str(typed), again), 0, "%s", typed);
		cr_assert_arr_eq(key, again, sizeof(key));
	}
	cr_assert(!recovery_key_is_meant(bytes_of_str("correct horse")));
	cr_assert(!recovery_key_is_meant(bytes_of_str("SRK")));
}

Test(crypto_recovery, each_wrong_character_is_noticed)
{
	static const char others[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZU*";
	uint8_t key[RECOVERY_KEY_BYTES];
	char text[RECOVERY_TEXT_SIZE];
	size_t len;

	cr_assert_eq(recovery_key_make(text), 0);
	len = strlen(text);
	for (size_t i = 5; i < len; i++) {
		char right = text[i];

		if (right == '-')
			continue;
		for (const char *c = others; *c; c++) {
			text[i] = *c;
			if (*c != right)
				cr_assert_eq(recovery_key_parse(bytes_of_str(text), key), -EBADMSG);
		}
		text[i] = right;
	}
	cr_assert_eq(recovery_key_parse(bytes_of_str(text), key), 0);
	cr_assert_eq(recovery_key_parse(bytes_of(text, len - 1), key), -EBADMSG);
	strcat(text, "0");
	cr_assert_eq(recovery_key_parse(bytes_of_str(text), key), -EBADMSG);
}

Test(crypto_recovery, shares_give_it_back)
{
	struct share shares[SHARE_COUNT_MAX], read[SHARE_COUNT_MAX];
	uint8_t key[RECOVERY_KEY_BYTES], again[RECOVERY_KEY_BYTES];
	char text[SHARE_TEXT_SIZE];

	fixed_key(key);
	cr_assert_eq(share_split(key, 1, 3, shares), -EINVAL);
	cr_assert_eq(share_split(key, 4, 3, shares), -EINVAL);
	cr_assert_eq(share_split(key, 2, SHARE_COUNT_MAX + 1, shares), -EINVAL);
	cr_assert_eq(share_split(key, 3, 5, shares), 0);
	for (unsigned i = 0; i < 5; i++) {
		AUTO(buf) file = BUF_INIT;

		share_print(&shares[i], text);
		cr_assert(strlen(text) < sizeof(text));
		cr_assert_eq(buf_printf(&file, "for the notary\n\n  %s\nkeep it\n", text), 0);
		cr_assert_eq(share_parse(buf_bytes(&file), &read[i]), 0);
	}
	cr_assert_eq(share_combine(read, 5, again), 0);
	cr_assert_arr_eq(key, again, sizeof(key));
	cr_assert_eq(share_combine(read + 2, 3, again), 0);
	cr_assert_arr_eq(key, again, sizeof(key));
	cr_assert_eq(share_combine(read, 2, again), -ENODATA);
	cr_assert_eq(share_combine(read, 0, again), -EINVAL);
	read[1] = read[0];
	cr_assert_eq(share_combine(read, 3, again), -EINVAL);
}

Test(crypto_recovery, a_wrong_share_is_detected)
{
	struct share shares[3], others[3], mixed[3];
	uint8_t key[RECOVERY_KEY_BYTES];
	char text[SHARE_TEXT_SIZE];

	fixed_key(key);
	cr_assert_eq(share_split(key, 3, 3, shares), 0);
	cr_assert_eq(share_split(key, 3, 3, others), 0);
	memcpy(mixed, shares, sizeof(mixed));
	mixed[1] = others[1];
	cr_assert_eq(share_combine(mixed, 3, key), -EINVAL); /* another set */
	memcpy(mixed[1].set, shares[1].set, SHARE_SET_BYTES);
	cr_assert_eq(share_combine(mixed, 3, key), -EKEYREJECTED); /* made to look like it */
	memcpy(mixed, shares, sizeof(mixed));
	for (unsigned bit = 0; bit < 8 * SHARE_DATA_BYTES; bit++) {
		mixed[2].data[bit / 8] ^= (uint8_t)(1 << bit % 8);
		cr_assert_eq(share_combine(mixed, 3, key), -EKEYREJECTED);
		mixed[2].data[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	share_print(&shares[0], text);
	for (size_t i = 5; text[i]; i++) {
		char right = text[i];

		if (right == '-')
			continue;
		text[i] = right == '2' ? '3' : '2';
		cr_assert_eq(share_parse(bytes_of_str(text), &mixed[0]), -EBADMSG);
		text[i] = right;
	}
	cr_assert_eq(share_parse(bytes_of_str(text), &mixed[0]), 0);
	cr_assert_eq(share_parse(bytes_of_str("nothing of it"), &mixed[0]), -EBADMSG);
}

Test(crypto_recovery, a_passphrase_file_may_hold_it_in_any_form)
{
	AUTO(credentials) a = CREDENTIALS_INIT, b = CREDENTIALS_INIT;
	AUTO(buf) why = BUF_INIT;
	char path[] = "/tmp/shardfs-recovery-XXXXXX", text[RECOVERY_TEXT_SIZE];
	int fd = mkstemp(path);

	cr_assert(fd >= 0);
	cr_assert_eq(recovery_key_make(text), 0);
	cr_assert_eq(dprintf(fd, "%s\n", text), (int)strlen(text) + 1);
	cr_assert_eq(credentials_load(path, NULL, NULL, &a, &why), 0);
	cr_assert_eq(a.passphrase.len, strlen(text));
	cr_assert_arr_eq(a.passphrase.ptr, text, a.passphrase.len);
	for (char *c = text; *c; c++)
		*c = *c == '-' ? ' ' : (char)tolower((unsigned char)*c);
	cr_assert_eq(ftruncate(fd, 0), 0);
	cr_assert_eq(pwrite(fd, text, strlen(text), 0), (ssize_t)strlen(text));
	cr_assert_eq(credentials_load(path, NULL, NULL, &b, &why), 0);
	cr_assert_eq(a.passphrase.len, b.passphrase.len);
	cr_assert_arr_eq(a.passphrase.ptr, b.passphrase.ptr, a.passphrase.len);
	cr_assert_eq(pwrite(fd, text[10] == '2' ? "3" : "2", 1, 10), 1);
	cr_assert_eq(credentials_load(path, NULL, NULL, &b, &why), -EKEYREJECTED);
	cr_assert(strstr(buf_str(&why), "recovery key"));
	cr_assert(!strstr(buf_str(&why), text + 20));
	close(fd);
	unlink(path);
}
