/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/recover_show.h"

#include "util/buf.h"
#include "util/clock.h"

#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#define PROGRESS_EVERY_MS 100u
#define BAR_WIDTH	  24u

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

	if (!screen->is_terminal || (screen->is_shown && now - screen->shown_ms < PROGRESS_EVERY_MS))
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
		printf("states that are held, newest first (--at TIME takes the newest not later):\n"
		       "%-24s %12s %6s %-8s  %s\n", "time", "generation", "epoch", "ends", "at");
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
