/* SPDX-License-Identifier: Apache-2.0 */
#include "store/dedup.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

static const struct chunk_id name = {{1, 2, 3}};

static enum dedup_answer begin(struct dedup *dedup, uint64_t domain, uint64_t *chunk_no)
{
	enum dedup_answer answer;
	struct chunk_row row = {0};

	cr_assert_eq(dedup_begin(dedup, &name, domain, &answer, &row), 0);
	*chunk_no = row.chunk_no;
	return answer;
}

static int finish(struct dedup *dedup, uint64_t domain, uint64_t chunk_no)
{
	struct chunk_row row = {.chunk_no = chunk_no, .id = name};

	return dedup_finish(dedup, &name, domain, chunk_no ? &row : NULL);
}

Test(store_dedup, a_name_is_made_once_and_known_while_pinned)
{
	struct dedup *dedup;
	uint64_t no;

	cr_assert_eq(dedup_new(&dedup), 0);
	cr_assert_eq(begin(dedup, 0, &no), DEDUP_MAKE);
	cr_assert_eq(finish(dedup, 0, 7), 0);
	cr_assert_eq(begin(dedup, 0, &no), DEDUP_FOUND);
	cr_assert_eq(no, 7);
	dedup_unpin(dedup, 7);
	cr_assert_eq(begin(dedup, 0, &no), DEDUP_FOUND);
	dedup_unpin(dedup, 7);
	dedup_unpin(dedup, 7);
	cr_assert_eq(begin(dedup, 0, &no), DEDUP_MAKE, "the index answers now");
	cr_assert_eq(finish(dedup, 0, 0), 0);
	dedup_free(dedup);
}

Test(store_dedup, domains_are_apart)
{
	struct dedup *dedup;
	uint64_t no;

	cr_assert_eq(dedup_new(&dedup), 0);
	cr_assert_eq(begin(dedup, 0, &no), DEDUP_MAKE);
	cr_assert_eq(begin(dedup, 5, &no), DEDUP_MAKE);
	cr_assert_eq(finish(dedup, 5, 8), 0);
	cr_assert_eq(finish(dedup, 0, 7), 0);
	cr_assert_eq(begin(dedup, 5, &no), DEDUP_FOUND);
	cr_assert_eq(no, 8);
	dedup_free(dedup);
}

Test(store_dedup, what_is_pinned_is_not_condemned_and_what_is_condemned_is_not_found)
{
	struct dedup *dedup;
	uint64_t no;

	cr_assert_eq(dedup_new(&dedup), 0);
	begin(dedup, 0, &no);
	cr_assert_eq(finish(dedup, 0, 7), 0);
	cr_assert_eq(dedup_condemn(dedup, 7), -EBUSY);
	dedup_unpin(dedup, 7);
	cr_assert_eq(dedup_condemn(dedup, 7), 0);
	cr_assert_eq(begin(dedup, 0, &no), DEDUP_MAKE);
	cr_assert_eq(finish(dedup, 0, 7), -EBUSY);
	cr_assert_eq(finish(dedup, 0, 8), 0);
	dedup_unpin(dedup, 8);
	dedup_forget_condemned(dedup, 7);
	begin(dedup, 0, &no);
	cr_assert_eq(finish(dedup, 0, 7), 0, "gc gave up: it is good again");
	dedup_free(dedup);
}

/* The maker looked the chunk up before it was deleted; it finishes after all is over. */
Test(store_dedup, an_answer_from_before_the_deletion_does_not_count)
{
	struct dedup *dedup;
	uint64_t no;

	cr_assert_eq(dedup_new(&dedup), 0);
	begin(dedup, 0, &no);
	cr_assert_eq(dedup_condemn(dedup, 7), 0);
	dedup_forget_condemned(dedup, 7);
	begin(dedup, 1, &no); /* a younger maker elsewhere */
	cr_assert_eq(finish(dedup, 0, 7), -EBUSY);
	cr_assert_eq(finish(dedup, 0, 9), 0);
	/* the younger one began afterwards: it cannot have seen the chunk, and may have a new 7 */
	cr_assert_eq(finish(dedup, 1, 7), 0);
	dedup_free(dedup);
}

/* The index shows it without references, and yet it is about to be referred to. */
Test(store_dedup, a_new_chunk_is_not_condemned_before_it_is_known)
{
	struct dedup *dedup;
	uint64_t no;

	cr_assert_eq(dedup_new(&dedup), 0);
	begin(dedup, 0, &no);
	cr_assert_eq(dedup_claim(dedup, &name, 0, 7), 0);
	cr_assert_eq(dedup_condemn(dedup, 7), -EBUSY);
	cr_assert_eq(finish(dedup, 0, 7), 0);
	cr_assert_eq(dedup_condemn(dedup, 7), -EBUSY);
	dedup_unpin(dedup, 7);
	begin(dedup, 0, &no);
	cr_assert_eq(dedup_claim(dedup, &name, 0, 8), 0);
	cr_assert_eq(finish(dedup, 0, 0), 0, "could not be journalled");
	cr_assert_eq(dedup_condemn(dedup, 8), 0);
	dedup_free(dedup);
}

/* ---- every order of the steps of two writers and the gc ---- */

/*
 * A model of index and world: chunk 1 exists without references.  A writer looks
 * the name up, finishes, refers, unpins.  The gc condemns, looks at the
 * references, deletes if there are none, forgets.  In no order may a writer
 * refer to a chunk that is deleted.
 */
#define WRITER_STEPS 4
#define GC_STEPS     4

struct model {
	struct dedup *dedup;
	bool exists[4];
	unsigned refs[4];
	unsigned next_no;
	bool is_condemned;
};

struct writer {
	unsigned step;
	uint64_t found, holds;
	bool is_maker;
};

static bool writer_can(const struct model *model, const struct writer *writers, unsigned i)
{
	(void)model;
	/* it would wait for the other one, who is the maker just now */
	return writers[i].step < WRITER_STEPS &&
	       (writers[i].step > 0 || !writers[1 - i].is_maker);
}

static void writer_do(struct model *model, struct writer *writer)
{
	switch (writer->step++) {
	case 0:
		writer->is_maker = begin(model->dedup, 0, &writer->holds) == DEDUP_MAKE;
		if (!writer->is_maker)
			break;
		writer->found = 0;
		for (unsigned no = 1; no < 4; no++)
			if (model->exists[no])
				writer->found = no;
		break;
	case 1:
		if (!writer->is_maker)
			break;
		writer->holds = writer->found;
		if (!writer->found || finish(model->dedup, 0, writer->found) == -EBUSY) {
			writer->holds = model->next_no++;
			cr_assert_eq(dedup_claim(model->dedup, &name, 0, writer->holds), 0);
			model->exists[writer->holds] = true;
			cr_assert_eq(dedup_condemn(model->dedup, writer->holds), -EBUSY);
			cr_assert_eq(finish(model->dedup, 0, writer->holds), 0);
		}
		writer->is_maker = false;
		break;
	case 2:
		cr_assert(model->exists[writer->holds], "refers to what is deleted");
		model->refs[writer->holds]++;
		break;
	case 3:
		dedup_unpin(model->dedup, writer->holds);
	}
}

static void gc_do(struct model *model, unsigned step)
{
	switch (step) {
	case 0:
		model->is_condemned = dedup_condemn(model->dedup, 1) == 0;
		break;
	case 1:
		if (model->is_condemned && model->refs[1] > 0) {
			dedup_forget_condemned(model->dedup, 1);
			model->is_condemned = false;
		}
		break;
	case 2:
		if (model->is_condemned) {
			cr_assert_eq(model->refs[1], 0, "deletes what is referred to");
			model->exists[1] = false;
		}
		break;
	case 3:
		if (model->is_condemned)
			dedup_forget_condemned(model->dedup, 1);
	}
}

/* order: two bits for each step: 0, 1 the writers, 2 the gc.  false: no such order. */
static bool run_order(const uint8_t *order, unsigned count)
{
	struct model model = {.exists = {false, true}, .next_no = 2};
	struct writer writers[2] = {{0}};
	unsigned gc_step = 0;
	bool is_possible = true;

	cr_assert_eq(dedup_new(&model.dedup), 0);
	for (unsigned i = 0; i < count && is_possible; i++) {
		if (order[i] == 2 && gc_step < GC_STEPS)
			gc_do(&model, gc_step++);
		else if (order[i] < 2 && writer_can(&model, writers, order[i]))
			writer_do(&model, &writers[order[i]]);
		else
			is_possible = false;
	}
	dedup_free(model.dedup);
	return is_possible;
}

static unsigned permute(uint8_t *order, unsigned at, unsigned left[3])
{
	unsigned count = 0;

	if (left[0] + left[1] + left[2] == 0)
		return run_order(order, at);
	for (unsigned who = 0; who < 3; who++) {
		if (left[who] == 0)
			continue;
		left[who]--;
		order[at] = (uint8_t)who;
		count += permute(order, at + 1, left);
		left[who]++;
	}
	return count;
}

Test(store_dedup, in_every_order_of_steps_nobody_refers_to_what_is_deleted, .timeout = 120)
{
	unsigned left[3] = {WRITER_STEPS, WRITER_STEPS, GC_STEPS};
	uint8_t order[2 * WRITER_STEPS + GC_STEPS];

	cr_assert_gt(permute(order, 0, left), 1000);
}

/* ---- those who wait ---- */

#define WAITERS 6

static struct dedup *shared;
static _Atomic unsigned makers, finders, entered;

static void *ask(void *arg)
{
	uint64_t no;

	(void)arg;
	atomic_fetch_add(&entered, 1);
	if (begin(shared, 0, &no) == DEDUP_FOUND) {
		cr_assert_eq(no, 3);
		atomic_fetch_add(&finders, 1);
		return NULL;
	}
	/* the first two makers fail: the next one in the queue takes over */
	finish(shared, 0, atomic_fetch_add(&makers, 1) < 2 ? 0 : 3);
	return NULL;
}

Test(store_dedup, when_a_maker_fails_the_next_one_makes_and_all_get_a_pin, .timeout = 60)
{
	pthread_t threads[WAITERS];
	uint64_t no;

	cr_assert_eq(dedup_new(&shared), 0);
	cr_assert_eq(begin(shared, 0, &no), DEDUP_MAKE);
	for (unsigned i = 0; i < WAITERS; i++)
		cr_assert_eq(pthread_create(&threads[i], NULL, ask, NULL), 0);
	while (atomic_load(&entered) < WAITERS)
		sched_yield();
	finish(shared, 0, 0);
	for (unsigned i = 0; i < WAITERS; i++)
		pthread_join(threads[i], NULL);
	cr_assert_eq(makers, 3);
	cr_assert_eq(finders, WAITERS - 3);
	for (unsigned i = 0; i < WAITERS - 2; i++) { /* the maker's and the finders' */
		cr_assert_eq(dedup_condemn(shared, 3), -EBUSY);
		dedup_unpin(shared, 3);
	}
	cr_assert_eq(dedup_condemn(shared, 3), 0);
	dedup_free(shared);
}
