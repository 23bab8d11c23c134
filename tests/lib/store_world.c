/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/store_world.h"

#include "crypto/crypto.h"
#include "store/names.h"
#include "tests/lib/check.h"
#include "util/clock.h"
#include "util/log.h"
#include "util/waiter.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *home(void)
{
	const char *dir = getenv("TMPDIR");
	static char path[4096];

	/* the time too: a number of a process comes again, and what a killed test left is there */
	if (path[0] == '\0')
		snprintf(path, sizeof(path), "%s/store-world.%d.%llx", dir ? dir : "/tmp",
			 (int)getpid(), (unsigned long long)clock_mono_ns());
	return path;
}

static bool is_memory; /* the providers */

static void must(int r, struct buf *why)
{
	if (r < 0)
		fprintf(stderr, "store_world: %d %s\n", r, why && why->len ? buf_str(why) : "");
	cr_assert(r >= 0);
}

static void load_config(struct config *out)
{
	AUTO(buf) text = BUF_INIT;
	AUTO(buf) why = BUF_INIT;

	buf_printf(&text, "home: %s\npassphrase_file: %s/passphrase\nproviders:\n", home(), home());
	for (unsigned i = 0; i < 3 && is_memory; i++)
		buf_printf(&text, "  - name: p%u\n    type: memory\n    shared: p%u\n", i, i);
	for (unsigned i = 0; i < 3 && !is_memory; i++)
		buf_printf(&text, "  - name: p%u\n    type: dir\n    path: %s/p%u\n", i, home(), i);
	must(config_parse(buf_bytes(&text), "world.yaml", store_config_checks(), out, &why), &why);
}

static void open_store(struct store_world *world)
{
	AUTO(buf) why = BUF_INIT;
	struct config *config = mem_alloc(sizeof(*config));

	cr_assert(config);
	load_config(config);
	must(store_open(config, 0, false, &why, &world->store), &why);
	must(index_reader_open(world->store->index, &world->reader), NULL);
	must(names_load(world->store, world->reader, INO_ROOT, &world->root), NULL);
}

static void close_store(struct store_world *world)
{
	inode_unref(world->store->inodes, world->root, 1);
	index_reader_close(world->reader);
	must(store_close(world->store), NULL);
}

void store_world_init(struct store_world *world)
{
	AUTO(credentials) credentials = CREDENTIALS_INIT;
	AUTO(buf) why = BUF_INIT;
	struct store_create_settings settings = {
		.credentials = &credentials,
		.kdf = KDF_PARAMS_TEST,
	};
	char path[4200];
	int fd;

	*world = (struct store_world){0};
	log_setup(2, LOG_WARN, false);
	cr_assert(mkdir(home(), 0700) == 0);
	for (unsigned i = 0; i < 3; i++) {
		snprintf(path, sizeof(path), "%s/p%u", home(), i);
		cr_assert(mkdir(path, 0700) == 0);
	}
	snprintf(path, sizeof(path), "%s/passphrase", home());
	fd = open(path, O_CREAT | O_WRONLY, 0600);
	cr_assert(fd >= 0 && write(fd, "secret\n", 7) == 7 && close(fd) == 0);
	load_config(&world->config);
	must(credentials_load(path, NULL, NULL, &credentials, &why), &why);
	must(store_create(&world->config, &settings, &why), &why);
	open_store(world);
}

void store_world_init_memory(struct store_world *world)
{
	is_memory = true;
	store_world_init(world);
}

void store_world_reopen(struct store_world *world)
{
	close_store(world);
	open_store(world);
}

void store_world_release(struct store_world *world)
{
	close_store(world);
	config_release(&world->config);
}

struct inode *store_world_file(struct store_world *world, const char *name)
{
	struct names_new new_file = {.mode = S_IFREG | 0644};
	struct inode *inode;

	must(names_create(world->store, world->reader, world->root, bytes_of_str(name), &new_file,
			  &inode), NULL);
	return inode;
}

/* ---- waiting ---- */

struct world_wait {
	struct waiter waiter;
	struct lock lock; /* LOCK_LEAF */
	struct cond cond;
	bool is_told;
	int error;
};

static void tell(struct waiter *waiter, int error)
{
	struct world_wait *wait = container_of(waiter, struct world_wait, waiter);

	LOCK_SCOPE(&wait->lock);
	wait->error = error;
	wait->is_told = true;
	cond_wake_all(&wait->cond);
}

static void wait_init(struct world_wait *wait)
{
	*wait = (struct world_wait){.waiter = {.done = tell}};
	lock_init(&wait->lock, LOCK_LEAF);
	cond_init(&wait->cond);
}

static void wait_end(struct world_wait *wait)
{
	lock_take(&wait->lock);
	while (!wait->is_told)
		cond_wait(&wait->cond, &wait->lock);
	lock_drop(&wait->lock);
	cond_release(&wait->cond);
	lock_release(&wait->lock);
	must(wait->error, NULL);
}

void store_world_push(struct store_world *world, struct inode *inode)
{
	struct world_wait wait;

	wait_init(&wait);
	writer_push(world->store->writer, inode, &wait.waiter);
	wait_end(&wait);
}

void store_world_write(struct store_world *world, struct inode *inode, uint64_t off,
		       struct bytes bytes)
{
	struct world_wait wait;
	int r;

	wait_init(&wait);
	r = writer_write(world->store->writer, inode, off, bytes, false, true,
			 &wait.waiter);
	if (r == 0)
		tell(&wait.waiter, 0);
	else
		cr_assert(r == -EINPROGRESS);
	wait_end(&wait);
}
