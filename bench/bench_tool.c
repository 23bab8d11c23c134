/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the benchmark needs besides cp, rsync and find: reproducible data, and
 * loops whose rates and latencies are printed as plain numbers.
 *
 *	bench_tool big FILE MIB			half-compressible bytes
 *	bench_tool insert FROM TO PERCENT	FROM with so much inserted here and there
 *	bench_tool tree DIR DIRS FILES		small files, sizes as in a source tree
 *	bench_tool random FILE SECONDS		random 4 KiB, 3 reads for each write: iops
 *	bench_tool create DIR COUNT		files a second
 *	bench_tool unlink DIR COUNT		files a second
 *	bench_tool fsync FILE THREADS SECONDS	4 KiB writes, each followed by fsync: a second
 *	bench_tool latency DIR SECONDS		p99 of stat, create and cached read: ms ms ms
 *	bench_tool names DIR COUNT		COUNT empty files in directories of 1,000
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define BLOCK ((size_t)4096)

static uint64_t random_state = 88172645463325252ull;

static uint64_t random_next(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state;
}

static void die(const char *what)
{
	fprintf(stderr, "bench_tool: %s: %s\n", what, strerror(errno));
	exit(1);
}

static double seconds_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int open_or_die(const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC, 0644);

	if (fd < 0)
		die(path);
	return fd;
}

static void write_all(int fd, const void *ptr, size_t len)
{
	for (const char *p = ptr; len > 0;) {
		ssize_t n = write(fd, p, len);

		if (n < 0)
			die("write");
		p += n;
		len -= (size_t)n;
	}
}

/* Every other 4 KiB is text-like (it shrinks to a few percent), the rest random. */
static void fill_half(uint8_t *block, size_t len)
{
	static const char *const words[] = {"backup ", "shard ", "copy ", "provider ",
					    "chunk ", "index ", "journal ", "spool "};

	for (size_t at = 0; at < len; at += BLOCK) {
		uint8_t *p = block + at;

		if ((at / BLOCK) & 1) {
			for (size_t i = 0; i < BLOCK; i += 8) {
				uint64_t v = random_next();

				memcpy(p + i, &v, 8);
			}
			continue;
		}
		for (size_t i = 0; i < BLOCK;) {
			const char *word = words[random_next() % 8];
			size_t n = strlen(word);

			if (n > BLOCK - i)
				n = BLOCK - i;
			memcpy(p + i, word, n);
			i += n;
		}
	}
}

static void make_big(const char *path, long mib)
{
	int fd = open_or_die(path, O_WRONLY | O_CREAT | O_TRUNC);
	uint8_t *block = malloc(1 << 20);

	for (long i = 0; i < mib; i++) {
		fill_half(block, 1 << 20);
		write_all(fd, block, 1 << 20);
	}
	free(block);
	close(fd);
}

/* Pieces of 4 to 60 KiB at random places, together `percent` of the file. */
static void make_inserted(const char *from, const char *to, double percent)
{
	int in = open_or_die(from, O_RDONLY), out = open_or_die(to, O_WRONLY | O_CREAT | O_TRUNC);
	uint8_t *block = malloc(1 << 20), *piece = malloc(1 << 16);
	double owed = 0;
	ssize_t n;

	while ((n = read(in, block, 1 << 20)) > 0) {
		size_t cut = random_next() % (size_t)n, len;

		owed += (double)n * percent / 100;
		write_all(out, block, cut);
		if (owed > 32768) {
			len = 4096 + random_next() % 57344;
			fill_half(piece, (len + BLOCK - 1) / BLOCK * BLOCK);
			write_all(out, piece, len);
			owed -= (double)len;
		}
		write_all(out, block + cut, (size_t)n - cut);
	}
	free(block);
	free(piece);
	close(in);
	close(out);
}

static void make_tree(const char *root, long dirs, long files)
{
	uint8_t *block = malloc(1 << 18);
	char path[4096];

	mkdir(root, 0755);
	for (long i = 0; i < dirs; i++) {
		/* a third of the directories lie in another one */
		if (i % 3 == 2)
			snprintf(path, sizeof(path), "%s/d%04ld/sub", root, i - 1);
		else
			snprintf(path, sizeof(path), "%s/d%04ld", root, i);
		if (mkdir(path, 0755) < 0 && errno != EEXIST)
			die(path);
	}
	for (long i = 0; i < files; i++) {
		long dir = (long)(random_next() % (uint64_t)dirs);
		size_t len = 200 + random_next() % 4096;
		int fd;

		if (random_next() % 10 == 0)
			len += random_next() % 60000;
		if (dir % 3 == 2)
			snprintf(path, sizeof(path), "%s/d%04ld/sub/f%05ld.c", root, dir - 1, i);
		else
			snprintf(path, sizeof(path), "%s/d%04ld/f%05ld.c", root, dir, i);
		fd = open_or_die(path, O_WRONLY | O_CREAT | O_TRUNC);
		fill_half(block, (len + BLOCK - 1) / BLOCK * BLOCK);
		write_all(fd, block, len);
		close(fd);
	}
	free(block);
}

static void run_random(const char *path, double seconds)
{
	int fd = open_or_die(path, O_RDWR);
	uint8_t block[BLOCK];
	struct stat st;
	double start = seconds_now(), end = start + seconds;
	uint64_t done = 0;

	if (fstat(fd, &st) < 0)
		die(path);
	fill_half(block, sizeof(block));
	while (seconds_now() < end) {
		off_t off = (off_t)(random_next() % ((uint64_t)st.st_size / BLOCK) * BLOCK);
		ssize_t n = done % 4 == 3 ? pwrite(fd, block, BLOCK, off)
					  : pread(fd, block, BLOCK, off);

		if (n != (ssize_t)BLOCK)
			die("random");
		done++;
	}
	if (fsync(fd) < 0)
		die("fsync");
	printf("%.0f\n", (double)done / (seconds_now() - start));
	close(fd);
}

static void run_names(const char *dir, long count, int is_unlink)
{
	char path[4096];
	double start = seconds_now();

	for (long i = 0; i < count; i++) {
		snprintf(path, sizeof(path), "%s/n%06ld", dir, i);
		if (is_unlink) {
			if (unlink(path) < 0)
				die(path);
		} else {
			close(open_or_die(path, O_WRONLY | O_CREAT | O_EXCL));
		}
	}
	printf("%.0f\n", (double)count / (seconds_now() - start));
}

static void make_names(const char *dir, long count)
{
	char path[4096];

	for (long i = 0; i < count; i++) {
		if (i % 1000 == 0) {
			snprintf(path, sizeof(path), "%s/m%05ld", dir, i / 1000);
			if (mkdir(path, 0755) < 0)
				die(path);
		}
		snprintf(path, sizeof(path), "%s/m%05ld/n%06ld", dir, i / 1000, i);
		close(open_or_die(path, O_WRONLY | O_CREAT | O_EXCL));
	}
}

struct fsync_job {
	const char *path;
	double end;
	unsigned no;
	uint64_t done;
};

static void *fsync_thread(void *arg)
{
	struct fsync_job *job = arg;
	uint8_t block[BLOCK];
	char path[4096];
	int fd;

	snprintf(path, sizeof(path), "%s.%u", job->path, job->no);
	fd = open_or_die(path, O_WRONLY | O_CREAT | O_TRUNC);
	memset(block, (int)job->no, sizeof(block));
	while (seconds_now() < job->end) {
		memcpy(block, &job->done, sizeof(job->done));
		write_all(fd, block, BLOCK);
		if (fsync(fd) < 0)
			die(path);
		job->done++;
	}
	close(fd);
	unlink(path);
	return NULL;
}

static void run_fsync(const char *path, unsigned threads, double seconds)
{
	struct fsync_job *jobs = calloc(threads, sizeof(*jobs));
	pthread_t *ids = calloc(threads, sizeof(*ids));
	double start = seconds_now();
	uint64_t done = 0;

	for (unsigned i = 0; i < threads; i++) {
		jobs[i] = (struct fsync_job){.path = path, .end = start + seconds, .no = i};
		if (pthread_create(&ids[i], NULL, fsync_thread, &jobs[i]) != 0)
			die("thread");
	}
	for (unsigned i = 0; i < threads; i++) {
		pthread_join(ids[i], NULL);
		done += jobs[i].done;
	}
	printf("%.0f\n", (double)done / (seconds_now() - start));
	free(jobs);
	free(ids);
}

static int compare_double(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

#define SAMPLES_MAX 200000

static double p99_ms(double *samples, size_t count)
{
	if (count == 0)
		return 0;
	qsort(samples, count, sizeof(*samples), compare_double);
	return samples[count * 99 / 100] * 1000;
}

static void run_latency(const char *dir, double seconds)
{
	double *times[3], end = seconds_now() + seconds;
	size_t count = 0;
	char path[4096], probe[4096];
	uint8_t block[BLOCK] = {0};
	struct stat st;
	int fd;

	for (unsigned i = 0; i < 3; i++)
		times[i] = calloc(SAMPLES_MAX, sizeof(double));
	snprintf(probe, sizeof(probe), "%s/probe", dir);
	fd = open_or_die(probe, O_RDWR | O_CREAT);
	write_all(fd, block, sizeof(block));
	while (seconds_now() < end && count < SAMPLES_MAX) {
		double t = seconds_now(), u;
		int made;

		/* a new look-up each time: the kernel may not answer it alone */
		snprintf(path, sizeof(path), "%s/absent%zu", dir, count);
		(void)stat(path, &st);
		u = seconds_now();
		times[0][count] = u - t;
		snprintf(path, sizeof(path), "%s/made%zu", dir, count);
		made = open_or_die(path, O_WRONLY | O_CREAT);
		t = seconds_now();
		times[1][count] = t - u;
		close(made);
		t = seconds_now();
		if (pread(fd, block, sizeof(block), 0) < 0)
			die(probe);
		times[2][count++] = seconds_now() - t;
		usleep(500);
	}
	printf("%.2f %.2f %.2f\n", p99_ms(times[0], count), p99_ms(times[1], count),
	       p99_ms(times[2], count));
	close(fd);
	for (unsigned i = 0; i < 3; i++)
		free(times[i]);
}

int main(int argc, char **argv)
{
	const char *verb = argc > 2 ? argv[1] : "";

	if (strcmp(verb, "big") == 0 && argc == 4)
		make_big(argv[2], atol(argv[3]));
	else if (strcmp(verb, "insert") == 0 && argc == 5)
		make_inserted(argv[2], argv[3], atof(argv[4]));
	else if (strcmp(verb, "tree") == 0 && argc == 5)
		make_tree(argv[2], atol(argv[3]), atol(argv[4]));
	else if (strcmp(verb, "random") == 0 && argc == 4)
		run_random(argv[2], atof(argv[3]));
	else if (strcmp(verb, "create") == 0 && argc == 4)
		run_names(argv[2], atol(argv[3]), 0);
	else if (strcmp(verb, "unlink") == 0 && argc == 4)
		run_names(argv[2], atol(argv[3]), 1);
	else if (strcmp(verb, "names") == 0 && argc == 4)
		make_names(argv[2], atol(argv[3]));
	else if (strcmp(verb, "fsync") == 0 && argc == 5)
		run_fsync(argv[2], (unsigned)atoi(argv[3]), atof(argv[4]));
	else if (strcmp(verb, "latency") == 0 && argc == 4)
		run_latency(argv[2], atof(argv[3]));
	else {
		fputs("bench_tool: see the head of bench/bench_tool.c\n", stderr);
		return 2;
	}
	return 0;
}
