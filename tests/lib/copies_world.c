/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/copies_world.h"

#include "backends/wrap_stats.h"
#include "tests/lib/check.h"

#include <errno.h>
#include <time.h>
#include <unistd.h>

#define TURN_NS	  2000000
#define TURNS_MAX 30000u

static void policy_of(void *ctx, uint64_t policy_root, struct policy *out)
{
	struct copies_world *world = ctx;

	(void)policy_root;
	*out = world->policy;
}

static void on_durable(void *ctx, uint64_t shard_no)
{
	struct copies_world *world = ctx;

	struct record *record = record_new();
	struct index_reader *reader;
	struct shard_row shard;
	uint64_t seq;

	cr_assert_eq(index_reader_open(world->data.index, &reader), 0);
	cr_assert_eq(index_get_shard(world->data.index, reader, shard_no, &shard), 0);
	index_reader_close(reader);
	cr_assert_eq(shard.state, SHARD_SEALED);
	shard.state = SHARD_DURABLE;
	record_put_shard(record, &shard);
	cr_assert_eq(sequencer_submit(world->data.sequencer, record, &seq), 0);
	atomic_fetch_add(&world->durable, 1);
	cr_assert_eq(spool_release(world->data.spool, shard_no, NULL), 0);
}

/* Memory behind faults and statistics, marked as this file system's. */
static struct backend *provider_new(struct copies_world *world, unsigned i)
{
	const struct backend_setting settings[] = {
		{.key = "async", .value = "true"}, {.key = "shared", .value = world->shares[i]}};
	struct fs_id fs_id = keyring_fs_id(world->data.keyring);
	struct backend *backend;
	AUTO(buf) why = BUF_INIT;

	cr_assert_eq(backend_open("memory", settings, 2, world->names[i], &why, &backend), 0);
	cr_assert_eq(fault_wrap(backend, NULL, &backend), 0);
	cr_assert_eq(stats_wrap(backend, &backend), 0);
	if (!world->is_made)
		cr_assert_eq(backend_init(backend, fs_id.b, &why), 0);
	backend_bind(backend, fs_id.b);
	return backend;
}

void copies_world_open(struct copies_world *world)
{
	struct fs_id fs_id = keyring_fs_id(world->data.keyring);
	struct transfer_settings settings = {
		.config = &world->config,
		.fs_id = fs_id.b,
		.keyring = world->data.keyring,
		.index = world->data.index,
		.sequencer = world->data.sequencer,
		.spool = world->data.spool,
		.policy_of = policy_of,
		.durable = on_durable,
		.ctx = world,
	};
	AUTO(buf) why = BUF_INIT;

	cr_assert_eq(transfer_open(&settings, &why, &world->transfer), 0);
	for (unsigned i = 0; i < world->provider_count; i++) {
		struct provider *provider = &world->transfer->lanes[i].provider;

		backend_close(provider->backend);
		provider->backend = world->backends[i] = provider_new(world, i);
	}
	world->is_made = true;
	if (world->queue_max)
		world->transfer->queue_max = world->queue_max;
}

void copies_world_start(struct copies_world *world)
{
	cr_assert_eq(transfer_start(world->transfer, world->data.reader), 0);
}

void copies_world_stop(struct copies_world *world)
{
	for (unsigned i = 0; i < world->provider_count && world->transfer; i++) {
		fault_clear(world->backends[i]);
		fault_release(world->backends[i]);
	}
	transfer_close(world->transfer);
	world->transfer = NULL;
}

void copies_world_restart(struct copies_world *world)
{
	copies_world_stop(world);
	data_world_restart(&world->data, true);
	copies_world_open(world);
}

void copies_world_init(struct copies_world *world, unsigned provider_count, unsigned copies)
{
	static unsigned worlds;

	memset(world, 0, sizeof(*world));
	data_world_init(&world->data, NULL);
	cr_assert_eq(config_settings_defaults(&world->config.settings), 0);
	world->config.source = (char *)"test";
	world->config.home = world->data.dir;
	world->config.providers = world->provider_configs;
	world->config.provider_count = world->provider_count = provider_count;
	world->policy = (struct policy){.copies = copies, .vendors = 1, .regions = 1};
	worlds++;
	for (unsigned i = 0; i < provider_count; i++) {
		struct config_provider *config = &world->provider_configs[i];

		snprintf(world->names[i], sizeof(world->names[i]), "p%u", i + 1);
		snprintf(world->shares[i], sizeof(world->shares[i]), "w%u-%u", worlds, i + 1);
		config->name = world->names[i];
		config->type = (char *)"memory";
		config->role = MIN(i, 2u);
	}
	copies_world_open(world);
}

void copies_world_release(struct copies_world *world)
{
	copies_world_stop(world);
	for (unsigned i = 0; i < world->provider_count; i++)
		memory_forget(world->shares[i]);
	config_settings_release(&world->config.settings);
	data_world_release(&world->data);
}

struct shard_row copies_shard(struct copies_world *world, size_t len, bool add)
{
	static _Atomic uint64_t number = 1;

	data_append(&world->data, INO_ROOT, number++, len);
	cr_assert_eq(spool_seal_all(world->data.spool, 0), 0);
	if (add)
		transfer_add(world->transfer, &world->data.last_sealed);
	return world->data.last_sealed;
}

uint32_t copies_state(struct copies_world *world, uint64_t shard_no, uint32_t no)
{
	AUTO(copy_list) copies = ROW_LIST_INIT;

	cr_assert_eq(index_list_copies(world->data.index, world->data.reader, shard_no, &copies), 0);
	for (size_t i = 0; i < copies.count; i++)
		if (copies.rows[i].provider_no == no)
			return copies.rows[i].state;
	return COPY_NONE;
}

unsigned copies_valid(struct copies_world *world, uint64_t shard_no)
{
	unsigned valid = 0;

	for (uint32_t no = 1; no <= world->provider_count; no++) {
		uint32_t state = copies_state(world, shard_no, no);

		valid += state == COPY_PRESENT || state == COPY_VERIFIED;
	}
	return valid;
}

/* Behind the fault wrapper, so that no rule counts it. */
bool copies_object_is_good(struct copies_world *world, const struct shard_row *shard, uint32_t no)
{
	struct backend *backend = backend_find(world->backends[no - 1], "memory");
	struct shard_id_hex key = shard_id_hex(&shard->id);
	AUTO(buf) bytes = BUF_INIT;
	struct backend_req req = {
		.op = BACKEND_GET, .key = key.s, .len = BACKEND_TO_END, .out = &bytes};
	struct pack_footer footer = PACK_FOOTER_INIT;
	struct pack_keys keys;
	int r;

	if (backend_run(backend, &req) < 0)
		return false;
	cr_assert_eq(pack_keys_init(&keys, world->data.keyring, shard->key_epoch, &shard->id), 0);
	r = pack_verify(world->data.aead, &keys, buf_bytes(&bytes), &footer);
	pack_footer_release(&footer);
	pack_keys_release(&keys);
	return r == 0;
}

enum protection copies_judge(struct copies_world *world, const struct shard_row *shard)
{
	AUTO(copy_list) copies = ROW_LIST_INIT;
	struct provider_facts facts[WORLD_PROVIDERS_MAX];
	unsigned fact_count = transfer_facts(world->transfer, facts, WORLD_PROVIDERS_MAX);

	cr_assert_eq(index_list_copies(world->data.index, world->data.reader, shard->shard_no,
				       &copies), 0);
	return placement_judge(&world->policy, copies.rows, (unsigned)copies.count, facts,
			       fact_count, spool_has(world->data.spool, shard->shard_no), NULL,
			       NULL);
}

void copies_turn(struct copies_world *world, bool probe, unsigned *turns)
{
	struct timespec pause = {.tv_nsec = TURN_NS};

	cr_assert((*turns)++ < TURNS_MAX);
	if (probe)
		transfer_probe(world->transfer);
	nanosleep(&pause, NULL);
}

void copies_await_valid(struct copies_world *world, uint64_t shard_no, unsigned copies)
{
	unsigned turns = 0;

	while (copies_valid(world, shard_no) != copies)
		copies_turn(world, true, &turns);
}

void copies_await_state(struct copies_world *world, uint64_t shard_no, uint32_t no, uint32_t state)
{
	unsigned turns = 0;

	while (copies_state(world, shard_no, no) != state)
		copies_turn(world, true, &turns);
}

void copies_await_present(struct copies_world *world, uint32_t no, bool is_present)
{
	unsigned turns = 0;

	while (provider_is_present(&world->transfer->lanes[no - 1].provider) != is_present)
		copies_turn(world, true, &turns);
}

void copies_fault(struct copies_world *world, uint32_t no, enum fault_mode mode, unsigned op,
		  int error, uint64_t nth, uint64_t count)
{
	struct fault_rule rule = {.mode = mode, .ops = BIT(op), .error = error, .nth = nth,
				  .count = count};

	cr_assert_eq(fault_add(world->backends[no - 1], &rule), 0);
}

struct expected {
	struct copies_world *world;
	const struct shard_row *shard;
};

static int check_object(void *ctx, struct bytes bytes)
{
	struct expected *expected = ctx;
	struct copies_world *world = expected->world;
	struct pack_footer footer = PACK_FOOTER_INIT;
	struct pack_keys keys;
	int r;

	cr_assert_eq(pack_keys_init(&keys, world->data.keyring, expected->shard->key_epoch,
				    &expected->shard->id), 0);
	r = pack_verify(world->data.aead, &keys, bytes, &footer);
	pack_footer_release(&footer);
	pack_keys_release(&keys);
	return r;
}

int copies_fetch(struct copies_world *world, const struct shard_row *shard, struct buf *out)
{
	struct expected expected = {world, shard};

	return transfer_fetch(world->transfer, world->data.reader, shard, 0,
			      (uint32_t)shard->object_len, check_object, &expected, out);
}
