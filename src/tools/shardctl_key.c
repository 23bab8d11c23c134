/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What opens a slot is read here, with the rights of the caller, and goes to the daemon in memory
 * alone.  A new recovery key is made here too, so that no answer of the daemon holds one: the slot
 * is added first, then the key is printed; without the answer it is of no use to anybody.
 */
#include "tools/shardctl_key.h"

#include "crypto/crypto.h"
#include "crypto/mac.h"
#include "crypto/recovery.h"
#include "ctl/ctl_client.h"
#include "tools/report.h"
#include "tools/shardctl_ask.h"
#include "util/err.h"
#include "util/file.h"
#include "util/log.h"
#include "util/mem.h"
#include "util/units.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PASSPHRASE_BYTES_MAX 4096u

struct key_options {
	struct shardctl_target target;
	const char *passphrase_file, *passphrase_command, *key_file, *label, *output;
	uint64_t epoch, shares, threshold;
	bool waits, has_epoch;
};

/* ---- asking ---- */

static int ask(const struct key_options *options, json_t *request, json_t **answer)
{
	return shardctl_ask(&options->target, NULL, request, shardctl_show_note, NULL, answer);
}

static const struct report_field slot_columns[] = {
	{"label", "LABEL", REPORT_TEXT},
	{"factors", "OPENS WITH", REPORT_TEXT},
	{"created", "CREATED", REPORT_TEXT},
	{0},
};

static const struct report_field epoch_columns[] = {
	{"state", "STATE", REPORT_TEXT},
	{"created", "CREATED", REPORT_TEXT},
	{"live_shards", "SHARDS", REPORT_COUNT},
	{"live_bytes", "BYTES", REPORT_BYTES},
	{"waiting_shards", "TO BE DELETED", REPORT_COUNT},
	{0},
};

static const struct report_field provider_columns[] = {
	{"superblock", "SUPERBLOCK", REPORT_TEXT},
	{"revision", "REVISION", REPORT_COUNT},
	{0},
};

static const struct report_field status_fields[] = {
	{"revision", "revision of the superblock", REPORT_COUNT},
	{"slots_at", "key slots are in", REPORT_TEXT},
	{"opened_with", "opened with slot", REPORT_COUNT},
	{"current_epoch", "key epoch in use", REPORT_COUNT},
	{"left_shards", "shards of other epochs", REPORT_COUNT},
	{"slot", "slot", REPORT_COUNT},
	{0},
};

static void show(const json_t *answer)
{
	static const struct {
		const char *key, *title;
		const struct report_field *columns;
	} tables[] = {
		{"slots", "SLOT", slot_columns},
		{"epochs", "EPOCH", epoch_columns},
		{"providers", "PROVIDER", provider_columns},
	};

	report_fields(stdout, answer, status_fields);
	for (size_t i = 0; i < ARRAY_COUNT(tables); i++) {
		if (json_object_size(json_object_get(answer, tables[i].key)) == 0)
			continue;
		fputc('\n', stdout);
		report_table(stdout, json_object_get(answer, tables[i].key), tables[i].title,
			     tables[i].columns);
	}
}

static int ask_and_show(const struct key_options *options, json_t *request)
{
	json_t *answer;
	int code = ask(options, request, &answer);

	if (answer && options->target.is_json)
		report_json(stdout, answer);
	else if (answer)
		show(answer);
	json_decref(answer);
	return code;
}

/* ---- secrets ---- */

static void put_hex(json_t *request, const char *key, struct bytes src)
{
	static const char digits[] = "0123456789abcdef";
	size_t size = 2 * src.len + 1;
	char *text = secret_alloc(size);

	for (size_t i = 0; text && i < src.len; i++) {
		text[2 * i] = digits[src.ptr[i] >> 4];
		text[2 * i + 1] = digits[src.ptr[i] & 15];
	}
	if (text)
		json_object_set_new(request, key, json_string(text));
	secret_free(text, size);
}

static int put_credentials(json_t *request, const struct credentials *credentials)
{
	struct digest digest;
	int r = 0;

	if (credentials->passphrase.len > PASSPHRASE_BYTES_MAX) {
		fprintf(stderr, "shardctl: a passphrase has at most %u bytes\n",
			PASSPHRASE_BYTES_MAX);
		return -E2BIG;
	}
	if (credentials->passphrase.len > 0)
		put_hex(request, "passphrase",
			bytes_of(credentials->passphrase.ptr, credentials->passphrase.len));
	if (credentials->key_file.len > 0) {
		r = sha256(bytes_of(credentials->key_file.ptr, credentials->key_file.len), &digest);
		if (r == 0)
			put_hex(request, "key_file_sha256", bytes_of(digest.b, sizeof(digest.b)));
		mem_wipe(&digest, sizeof(digest));
	}
	return r;
}

static int load_credentials(const struct key_options *options, struct credentials *out)
{
	AUTO(buf) why = BUF_INIT;
	int r = credentials_load(options->passphrase_file, options->passphrase_command,
				 options->key_file, out, &why);

	if (r < 0)
		fprintf(stderr, "shardctl: %s\n", why.len ? buf_str(&why) : err_sentence(r));
	return r;
}

static int credentials_exit(int r)
{
	return r == -EKEYREJECTED || r == -EPERM || r == -EACCES ? EXIT_DENIED : EXIT_USAGE;
}

/* ---- slots ---- */

static bool slot_arg(const char *text, json_t *request)
{
	uint64_t no;

	if (units_parse_count(text, &no) < 0 || no > UINT32_MAX) {
		fprintf(stderr, "shardctl: %s: is no number of a slot; see: shardctl key list\n", text);
		return false;
	}
	json_object_set_new(request, "slot", json_integer((json_int_t)no));
	return true;
}

static int with_credentials(const struct key_options *options, json_t *request)
{
	AUTO(credentials) credentials = CREDENTIALS_INIT;
	int r = load_credentials(options, &credentials);

	if (r == 0)
		r = put_credentials(request, &credentials);
	if (r < 0) {
		json_decref(request);
		return credentials_exit(r);
	}
	return ask_and_show(options, request);
}

static int run_add(const void *ctx, char **args, unsigned count)
{
	const struct key_options *options = ctx;
	json_t *request = shardctl_request("key add");

	(void)args;
	(void)count;
	if (options->label)
		json_object_set_new(request, "label", json_string(options->label));
	return with_credentials(options, request);
}

static int run_change(const void *options, char **args, unsigned count)
{
	json_t *request = shardctl_request("key change");

	(void)count;
	if (!slot_arg(args[0], request)) {
		json_decref(request);
		return EXIT_USAGE;
	}
	return with_credentials(options, request);
}

static int run_remove(const void *options, char **args, unsigned count)
{
	json_t *request = shardctl_request("key remove");

	(void)count;
	if (!slot_arg(args[0], request)) {
		json_decref(request);
		return EXIT_USAGE;
	}
	return ask_and_show(options, request);
}

static int run_list(const void *options, char **args, unsigned count)
{
	(void)args;
	(void)count;
	return ask_and_show(options, shardctl_request("key list"));
}

static int run_status(const void *options, char **args, unsigned count)
{
	(void)args;
	(void)count;
	return ask_and_show(options, shardctl_request("key status"));
}

/* ---- epochs ---- */

static int run_rotate(const void *ctx, char **args, unsigned count)
{
	const struct key_options *options = ctx;
	json_t *request = shardctl_request("key rotate");

	(void)args;
	(void)count;
	json_object_set_new(request, "wait", json_boolean(options->waits));
	return ask_and_show(options, request);
}

static int run_destroy(const void *ctx, char **args, unsigned count)
{
	const struct key_options *options = ctx;
	json_t *request;

	(void)args;
	(void)count;
	if (!options->has_epoch) {
		fputs("shardctl: key destroy: --epoch N is needed; see: shardctl key status\n",
		      stderr);
		return EXIT_USAGE;
	}
	request = shardctl_request("key destroy");
	json_object_set_new(request, "epoch", json_integer((json_int_t)options->epoch));
	return ask_and_show(options, request);
}

/* ---- keys on paper ---- */

/* A slot that opens with the text.  EXIT_DONE or EXIT_PARTIAL: it is there, and *answer. */
static int add_slot(const struct key_options *options, const char *text, const char *label,
		    json_t **answer)
{
	json_t *request = shardctl_request("key add");

	json_object_set_new(request, "label", json_string(options->label ? options->label : label));
	put_hex(request, "passphrase", bytes_of_str(text));
	return ask(options, request, answer);
}

static void print_paper(const char *text)
{
	unsigned groups = 0;

	fputs("  ", stdout);
	for (const char *c = text; *c; c++) {
		if (*c == '-' && ++groups % 7 == 0)
			fputs("-\n  ", stdout);
		else
			fputc(*c, stdout);
	}
	fputc('\n', stdout);
}

static void show_recovery(const struct key_options *options, json_t *answer, const char *text)
{
	if (options->target.is_json) {
		json_object_set_new(answer, "recovery_key", json_string(text));
		report_json(stdout, answer);
		return;
	}
	printf("Recovery key of the file system %s, slot %lld.\n"
	       "It opens everything, and is shown only now: write it down, keep it safe.\n"
	       "Where a passphrase is asked for it may be typed in capital or small letters,\n"
	       "with any spacing; a wrong character is noticed.\n\n",
	       json_string_value(json_object_get(answer, "fs")),
	       (long long)json_integer_value(json_object_get(answer, "slot")));
	print_paper(text);
}

static int run_recovery(const void *ctx, char **args, unsigned count)
{
	const struct key_options *options = ctx;
	char *text = secret_alloc(RECOVERY_TEXT_SIZE);
	json_t *answer = NULL;
	int code = EXIT_FAILED, r = text ? recovery_key_make(text) : -ENOMEM;

	(void)args;
	(void)count;
	if (r < 0)
		fprintf(stderr, "shardctl: %s\n", err_sentence(r));
	else
		code = add_slot(options, text, "recovery key", &answer);
	if (answer && (code == EXIT_DONE || code == EXIT_PARTIAL))
		show_recovery(options, answer, text);
	else if (answer && options->target.is_json)
		report_json(stdout, answer);
	json_decref(answer);
	secret_free(text, RECOVERY_TEXT_SIZE);
	return code;
}

struct split { /* in locked memory */
	uint8_t key[RECOVERY_KEY_BYTES];
	char text[RECOVERY_TEXT_SIZE];
	struct share shares[SHARE_COUNT_MAX];
	char lines[SHARE_COUNT_MAX][SHARE_TEXT_SIZE];
	char set[2 * SHARE_SET_BYTES + 1];
};

static char *share_path(const struct key_options *options, const struct split *split, unsigned i)
{
	return mem_printf("%s/shardfs-share-%s-%u.txt", options->output, split->set, i + 1);
}

static int write_share(const struct key_options *options, const struct split *split, unsigned i)
{
	AUTO_STR path = share_path(options, split, i);
	AUTO_FD fd = -1;
	FILE *file;
	int r = 0;

	if (!path)
		return -ENOMEM;
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	file = fd < 0 ? NULL : fdopen(fd, "w");
	if (!file) {
		r = -errno;
		fprintf(stderr, "shardctl: %s: %s\n", path, err_sentence(r));
		return r;
	}
	fd = -1;
	setvbuf(file, NULL, _IONBF, 0); /* no copy of it stays in a buffer */
	fprintf(file, "Share %u of %u of a key of a shardfs; any %u of them open it.\nSet %s\n\n%s\n",
		i + 1, split->shares[i].count, split->shares[i].threshold, split->set,
		split->lines[i]);
	if (ferror(file) || fsync(fileno(file)) < 0)
		r = -EIO;
	if (fclose(file) != 0)
		r = -EIO;
	if (r < 0) {
		fprintf(stderr, "shardctl: %s: %s\n", path, err_sentence(r));
		unlink(path);
	}
	return r;
}

static void unlink_shares(const struct key_options *options, const struct split *split,
			  unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		AUTO_STR path = share_path(options, split, i);

		if (path)
			unlink(path);
	}
}

static int make_split(const struct key_options *options, struct split *split)
{
	int r = crypto_random(split->key, sizeof(split->key));

	if (r == 0)
		r = share_split(split->key, (unsigned)options->threshold,
				(unsigned)options->shares, split->shares);
	if (r < 0)
		return r;
	recovery_key_print(split->key, split->text);
	for (unsigned i = 0; i < options->shares; i++)
		share_print(&split->shares[i], split->lines[i]);
	for (unsigned i = 0; i < SHARE_SET_BYTES; i++)
		snprintf(split->set + 2 * i, 3, "%02x", split->shares[0].set[i]);
	return 0;
}

static void show_split(const struct key_options *options, json_t *answer, const struct split *split)
{
	json_t *files = json_array();

	json_object_set_new(answer, "set", json_string(split->set));
	json_object_set_new(answer, "shares", json_integer((json_int_t)options->shares));
	json_object_set_new(answer, "threshold", json_integer((json_int_t)options->threshold));
	for (unsigned i = 0; i < options->shares; i++) {
		AUTO_STR path = options->output ? share_path(options, split, i) : NULL;

		json_array_append_new(files, json_string(path ? path : split->lines[i]));
	}
	json_object_set_new(answer, options->output ? "files" : "texts", files);
	if (options->target.is_json) {
		report_json(stdout, answer);
		return;
	}
	printf("Slot %lld of the file system %s opens with any %u of %u shares, set %s.\n",
	       (long long)json_integer_value(json_object_get(answer, "slot")),
	       json_string_value(json_object_get(answer, "fs")), (unsigned)options->threshold,
	       (unsigned)options->shares, split->set);
	for (unsigned i = 0; i < options->shares; i++) {
		if (options->output) {
			printf("%s\n", json_string_value(json_array_get(files, i)));
		} else {
			printf("\nShare %u of %u:\n", i + 1, (unsigned)options->shares);
			print_paper(split->lines[i]);
		}
	}
}

static int split_into(const struct key_options *options, struct split *split)
{
	json_t *answer = NULL;
	char label[40];
	unsigned written = 0;
	int code, r = make_split(options, split);

	for (; options->output && r == 0 && written < options->shares; written++)
		r = write_share(options, split, written);
	if (r < 0) {
		if (written > 0)
			unlink_shares(options, split, written - 1);
		return EXIT_FAILED;
	}
	snprintf(label, sizeof(label), "shares %s", split->set);
	code = add_slot(options, split->text, label, &answer);
	if (answer && (code == EXIT_DONE || code == EXIT_PARTIAL)) {
		show_split(options, answer, split);
	} else {
		unlink_shares(options, split, options->output ? (unsigned)options->shares : 0);
		if (answer && options->target.is_json)
			report_json(stdout, answer);
	}
	json_decref(answer);
	return code;
}

static int run_split(const void *ctx, char **args, unsigned count)
{
	const struct key_options *options = ctx;
	struct split *split;
	int code;

	(void)args;
	(void)count;
	if (options->threshold < 2 || options->threshold > options->shares ||
	    options->shares > SHARE_COUNT_MAX) {
		fprintf(stderr, "shardctl: key split: --shares N --threshold M, with 2 <= M <= N <= %u\n",
			SHARE_COUNT_MAX);
		return EXIT_USAGE;
	}
	split = secret_alloc(sizeof(*split));
	if (!split)
		return EXIT_FAILED;
	code = split_into(options, split);
	secret_free(split, sizeof(*split));
	return code;
}

static int run_combine(const void *options, char **args, unsigned count)
{
	char *text = secret_alloc(RECOVERY_TEXT_SIZE);
	AUTO(buf) why = BUF_INIT;
	int r = -ENOMEM;

	(void)options;
	if (text)
		r = share_files_combine((const char *const *)args, count, text, &why);
	setvbuf(stdout, NULL, _IONBF, 0);
	if (r == 0)
		puts(text);
	else
		fprintf(stderr, "shardctl: %s\n", why.len ? buf_str(&why) : err_sentence(r));
	secret_free(text, RECOVERY_TEXT_SIZE);
	return r == 0 ? EXIT_DONE : EXIT_DENIED;
}

/* ---- slots elsewhere ---- */

static int write_hex(const char *path, const char *hex)
{
	AUTO(buf) bytes = BUF_INIT;
	AUTO_FD fd = -1;
	int r = 0;

	for (; r == 0 && hex[0] && hex[1]; hex += 2) {
		unsigned value = 0;
		uint8_t byte;

		if (sscanf(hex, "%2x", &value) != 1)
			return -EBADMSG;
		byte = (uint8_t)value;
		r = buf_append(&bytes, bytes_of(&byte, 1));
	}
	if (r < 0)
		return r;
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	r = file_pwrite(fd, buf_bytes(&bytes), 0);
	if (r == 0 && fsync(fd) < 0)
		r = -errno;
	if (r < 0)
		unlink(path);
	return r;
}

static int run_export(const void *ctx, char **args, unsigned count)
{
	const struct key_options *options = ctx;
	const char *hex;
	json_t *answer;
	int code = ask(options, shardctl_request("key export-slots"), &answer);

	(void)count;
	hex = json_string_value(json_object_get(answer, "superblock"));
	if (code == EXIT_DONE && hex) {
		int r = write_hex(args[0], hex);

		if (r < 0) {
			fprintf(stderr, "shardctl: %s: %s\n", args[0], err_sentence(r));
			code = EXIT_FAILED;
		}
	}
	if (answer)
		json_object_del(answer, "superblock");
	if (answer && options->target.is_json)
		report_json(stdout, answer);
	json_decref(answer);
	return code;
}

/* ---- arguments ---- */

static const struct shardctl_command commands[] = {
	{"add", "CREDENTIALS [--label L]", "another passphrase or key file", 0, 0, run_add},
	{"change", "SLOT CREDENTIALS", "other credentials for a slot", 1, 1, run_change},
	{"combine", "SHARE...", "print the key that shares give", 1, SHARE_COUNT_MAX, run_combine},
	{"destroy", "--epoch N", "destroy the key of an epoch that nothing needs", 0, 0,
	 run_destroy},
	{"export-slots", "FILE", "write the key slots to a file", 1, 1, run_export},
	{"list", "", "key slots", 0, 0, run_list},
	{"recovery", "[--label L]", "a recovery key for paper, in a slot of its own", 0, 0,
	 run_recovery},
	{"remove", "SLOT", "remove a key slot, from every provider too", 1, 1, run_remove},
	{"rotate", "[--wait]", "new keys for new data; old data is re-sealed", 0, 0, run_rotate},
	{"split", "--shares N --threshold M", "a key for custodians, in shares", 0, 0, run_split},
	{"status", "", "key epochs, slots, and who has the superblock", 0, 0, run_status},
};

static void print_help(void)
{
	puts("Usage: shardctl [--mount DIR] [--json] key COMMAND [ARGUMENT]...\n\nCommands:");
	shardctl_group_help(&shardctl_key);
	puts("\nCREDENTIALS, one of them or a passphrase and a key file:\n"
	     "  -p, --passphrase-file FILE     one trailing newline is cut off\n"
	     "  -c, --passphrase-command CMD   its output; run by you, not by the daemon\n"
	     "  -k, --key-file FILE\n"
	     "\nOptions:\n"
	     "  -l, --label L        what a slot is called, 32 bytes at most\n"
	     "  -w, --wait           rotate: until old data is re-sealed\n"
	     "  -e, --epoch N        destroy: which\n"
	     "  -s, --shares N       split: how many\n"
	     "  -t, --threshold M    split: how many of them open it\n"
	     "  -o, --output DIR     split: a file for each share, instead of standard output\n"
	     "  -m, --mount DIR      the mount to talk to\n"
	     "  -j, --json           one JSON object on standard output\n"
	     "  -h, --help           this text\n"
	     "\nExit status: as for shardctl: 0 done; 1 failed; 2 usage; 3 state unknown; 5 refused;\n"
	     "6 some provider does not have it yet; 7 not allowed, or wrong shares.");
}

static bool count_option(const char *name, const char *text, uint64_t *out)
{
	if (units_parse_count(text, out) == 0)
		return true;
	fprintf(stderr, "shardctl: %s: %s: is no number\n", name, text);
	return false;
}

/* 0 to go on, else 1 + exit status. */
static int parse(int argc, char **argv, struct key_options *o)
{
	static const struct option longs[] = {
		{"mount", required_argument, NULL, 'm'},
		{"json", no_argument, NULL, 'j'},
		{"passphrase-file", required_argument, NULL, 'p'},
		{"passphrase-command", required_argument, NULL, 'c'},
		{"key-file", required_argument, NULL, 'k'},
		{"label", required_argument, NULL, 'l'},
		{"wait", no_argument, NULL, 'w'},
		{"epoch", required_argument, NULL, 'e'},
		{"shares", required_argument, NULL, 's'},
		{"threshold", required_argument, NULL, 't'},
		{"output", required_argument, NULL, 'o'},
		{"help", no_argument, NULL, 'h'},
		{0},
	};
	bool is_right = true;
	int c;

	while (is_right && (c = getopt_long(argc, argv, "m:jp:c:k:l:we:s:t:o:h", longs, NULL)) >= 0) {
		switch (c) {
		case 'm':
			o->target.mount = optarg;
			break;
		case 'j':
			o->target.is_json = true;
			break;
		case 'p':
			o->passphrase_file = optarg;
			break;
		case 'c':
			o->passphrase_command = optarg;
			break;
		case 'k':
			o->key_file = optarg;
			break;
		case 'l':
			o->label = optarg;
			break;
		case 'w':
			o->waits = true;
			break;
		case 'e':
			o->has_epoch = true;
			is_right = count_option("--epoch", optarg, &o->epoch);
			break;
		case 's':
			is_right = count_option("--shares", optarg, &o->shares);
			break;
		case 't':
			is_right = count_option("--threshold", optarg, &o->threshold);
			break;
		case 'o':
			o->output = optarg;
			break;
		case 'h':
			print_help();
			return 1 + EXIT_DONE;
		default:
			fputs("Try 'shardctl key --help'.\n", stderr);
			return 1 + EXIT_USAGE;
		}
	}
	return is_right ? 0 : 1 + EXIT_USAGE;
}

static int key_main(int argc, char **argv)
{
	struct key_options options = {.target.needs_mount = true};
	int r = parse(argc, argv, &options);

	if (r > 0)
		return r - 1;
	log_setup(STDERR_FILENO, LOG_WARN, false);
	ctl_wipe_json();
	crypto_harden_process();
	if (crypto_init() < 0 || crypto_self_test() < 0) {
		fputs("shardctl: the cryptographic library does not work as it must\n", stderr);
		return EXIT_FAILED;
	}
	return shardctl_group_run(&shardctl_key, argv + optind, (unsigned)(argc - optind), &options);
}

const struct shardctl_group shardctl_key = {"key", commands, ARRAY_COUNT(commands), key_main};
