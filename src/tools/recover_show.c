/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/recover_show.h"

#include "util/buf.h"
#include "util/clock.h"
#include "util/err.h"
#include "util/mem.h"
#include "util/units.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define PROGRESS_EVERY_MS 100u
#define BAR_WIDTH         24u

/* ---- how far it is ---- */

void show_clear(struct screen *screen)
{
	if (screen->is_shown)
		fputs("\r\033[K", stderr);
	screen->is_shown = false;
}

static void draw_bar(const char *what, uint64_t done, uint64_t total)
{
	double part = done < total ? (double)done / (double)total : 1;
	unsigned filled = (unsigned)(part * BAR_WIDTH);

	fputc('[', stderr);
	for (unsigned i = 0; i < BAR_WIDTH; i++)
		fputc(i < filled ? '#' : '-', stderr);
	fprintf(stderr, "] %3u %%  %s: %" PRIu64 " of %" PRIu64, (unsigned)(part * 100), what, done,
		total);
}

void show_progress(void *ctx, const char *what, uint64_t done, uint64_t total)
{
	struct screen *screen = ctx;
	uint64_t now = clock_mono_ms();

	if (!screen->is_terminal ||
	    (screen->is_shown && now - screen->shown_ms < PROGRESS_EVERY_MS))
		return;
	screen->shown_ms = now;
	show_clear(screen);
	if (total > 0)
		draw_bar(what, done, total);
	else
		fprintf(stderr, "%s: %" PRIu64, what, done);
	fflush(stderr);
	screen->is_shown = true;
}

void show_note(void *ctx, const char *text)
{
	show_clear(ctx);
	fprintf(stderr, "shardfs-recover: %s\n", text);
}

/* ---- what is where ---- */

const char *show_time(int64_t sec, char out[64])
{
	time_t t = (time_t)sec;
	struct tm tm;

	if (!localtime_r(&t, &tm) || strftime(out, 64, "%Y-%m-%d %H:%M:%S%z", &tm) == 0)
		snprintf(out, 64, "@%" PRId64, sec);
	return out;
}

static void show_provider(const struct recovery_provider *shown)
{
	char state[96];

	if (!shown->is_reached) {
		printf("%-20s %12s %12s %6s %9s %8s  not reached: %s\n", shown->name, "-", "-", "-",
		       "-", "-", shown->cause);
		return;
	}
	if (shown->complete == 0)
		snprintf(state, sizeof(state), "has no snapshot");
	else if (shown->lacking > 0)
		snprintf(state, sizeof(state), "stale: lacks %zu objects of the newest state",
			 shown->lacking);
	else
		snprintf(state, sizeof(state), "%s",
			 shown->complete < shown->newest ? "stale" : "complete");
	printf("%-20s %12" PRIu64 " %12" PRIu64 " %6" PRIu32 " %9zu %8zu  %s\n", shown->name,
	       shown->newest, shown->complete, shown->epoch, shown->snapshots, shown->segments,
	       state);
}

void show_providers(const struct recovery *recovery)
{
	uint32_t epoch = 0;
	uint64_t newest = recovery_newest(recovery, &epoch);

	printf("%-20s %12s %12s %6s %9s %8s  %s\n", "provider", "newest", "complete", "epoch",
	       "snapshots", "segments", "state");
	for (unsigned i = 0; i < recovery_provider_count(recovery); i++) {
		struct recovery_provider shown;

		recovery_provider_get(recovery, i, &shown);
		show_provider(&shown);
	}
	if (newest > 0)
		printf("together they give generation %" PRIu64 " (writer epoch %" PRIu32 ")\n",
		       newest, epoch);
	else
		puts("together they give nothing: no snapshot of the index is there");
}

struct listing {
	struct recovery *recovery;
	struct screen *screen;
	bool is_begun;
};

static int show_state(void *ctx, const struct recovery_state *state, uint32_t providers)
{
	struct listing *listing = ctx;
	unsigned count = recovery_provider_count(listing->recovery);
	bool is_first = true;
	char when[64];

	show_clear(listing->screen);
	if (!listing->is_begun)
		printf("states that are held, newest first (--at TIME takes the newest not "
		       "later):\n"
		       "%-24s %12s %6s %-8s  %s\n",
		       "time", "generation", "epoch", "ends", "at");
	listing->is_begun = true;
	printf("%-24s %12" PRIu64 " %6" PRIu32 " %-8s  ", show_time(state->made_sec, when),
	       state->generation, state->epoch, state->is_snapshot ? "snapshot" : "segment");
	for (unsigned i = 0; i < count; i++) {
		struct recovery_provider shown;

		if (!(providers >> i & 1))
			continue;
		recovery_provider_get(listing->recovery, i, &shown);
		printf("%s%s", is_first ? "" : ", ", shown.name);
		is_first = false;
	}
	putchar('\n');
	return 0;
}

int show_states(struct recovery *recovery, struct screen *screen)
{
	struct listing listing = {.recovery = recovery, .screen = screen};
	int r = recovery_list_states(recovery, show_state, &listing);

	show_clear(screen);
	return r;
}

int show_choice(struct recovery *recovery, int64_t at_sec, struct screen *screen,
		struct recovery_state *out, struct buf *why)
{
	struct recovery_state state;
	char asked[64], when[64];
	int r = recovery_choose(recovery, at_sec, &state);

	show_clear(screen);
	if (r < 0) {
		buf_printf(why, "no state can be chosen: %s", err_sentence(r));
		return r;
	}
	if (r > 0)
		printf("nothing from before %s is held any more; the oldest state there is will "
		       "do: ",
		       show_time(at_sec, asked));
	else
		printf("newest state not later than %s: ", show_time(at_sec, asked));
	printf("generation %" PRIu64 " of %s (writer epoch %" PRIu32 ", %s)\n", state.generation,
	       show_time(state.made_sec, when), state.epoch,
	       state.is_snapshot ? "a snapshot" : "the end of a segment");
	fflush(stdout);
	recovery_aim(recovery, &state);
	*out = state;
	return r;
}

/* ---- what was done ---- */

void show_recovered(const char *what, const struct recovery_result *result)
{
	char when[64];

	printf("%s: recovered generation %" PRIu64 " of %s\n", what, result->generation,
	       show_time(result->made_sec, when));
	printf("  %" PRIu64 " inodes, %" PRIu64 " bytes, %" PRIu64 " shards\n", result->inodes,
	       result->bytes, result->shards);
	if (result->objects_unknown > 0)
		printf("  %" PRIu64 " objects are shards that this state does not know; "
		       "they are left alone\n",
		       result->objects_unknown);
	if (result->shards_missing > 0)
		printf("  %" PRIu64 " shards are missing; %" PRIu64 " files are not whole\n",
		       result->shards_missing, result->files_damaged);
	fflush(stdout);
}

void show_begun(const struct recovery_state *state, const char *work)
{
	printf("a restore of generation %" PRIu64 " was begun here and goes on; remove %s to begin "
	       "anew\n",
	       state->generation, work);
	fflush(stdout);
}

/* store/epoch.c: "EPOCH MACHINE STATE" */
void show_branch(const char *home)
{
	AUTO_STR path = mem_printf("%s/writer", home);
	FILE *file = path ? fopen(path, "re") : NULL;
	char machine[40], state[16];
	uint32_t epoch;

	if (file && fscanf(file, "%" SCNu32 " %32s %8s", &epoch, machine, state) == 3)
		printf("branch: what %s has under writer epoch %" PRIu32 "%s\n", home, epoch,
		       strcmp(state, "lost") == 0 ? ", which another machine has taken over"
						  : ", which no other machine is known to have "
						    "taken over");
	else
		printf("branch: what %s has\n", home);
	fflush(stdout);
	if (file)
		fclose(file);
}

void show_restored(const char *dir, const struct restore_result *result)
{
	char size[UNITS_TEXT_SIZE];

	printf("%s: restored: %" PRIu64 " files, %" PRIu64 " directories, %" PRIu64 " others; %s "
	       "written\n",
	       dir, result->files, result->directories, result->others,
	       units_human_size(result->bytes, size));
	if (result->kept > 0)
		printf("  %" PRIu64 " of them were there already, whole\n", result->kept);
	if (result->same > 0)
		printf("  %" PRIu64
		       " were left out: the newest state at the providers has the same\n",
		       result->same);
	if (result->failed > 0)
		printf("  %" PRIu64 " could not be restored\n", result->failed);
	if (result->incomplete > 0)
		printf("  %" PRIu64 " attributes could not be set\n", result->incomplete);
}

int show_failure(const char *what, struct buf *why, int error)
{
	fprintf(stderr, "shardfs-recover: %s%s\n", what,
		why->len ? buf_str(why) : err_sentence(error));
	return error == -EKEYREJECTED || error == -ENOKEY ? RECOVER_KEYS : RECOVER_FAILED;
}
