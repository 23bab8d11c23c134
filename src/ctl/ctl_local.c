/* SPDX-License-Identifier: Apache-2.0 */
#include "ctl/ctl_local.h"

#include "ctl/ctl_private.h"
#include "store/names.h"

#include <errno.h>
#include <string.h>

/* Those that ask nothing of the parts that a mount starts. */
static const char *const local_verbs[] = {
	"audit list",	 "audit page",	  "audit verify", "config show", "policy",
	"provider list", "snapshot list", "stat",	  "status",
};

static const struct ctl_verb *find_local_verb(const char *name)
{
	for (size_t i = 0; name && i < ARRAY_COUNT(local_verbs); i++)
		if (strcmp(name, local_verbs[i]) == 0)
			return ctl_find_verb(name);
	return NULL;
}

/* From the root, one name after the other; symbolic links are not followed. */
static int look_up(struct store *store, struct index_reader *reader, const char *path,
		   struct inode **out)
{
	struct inode *at;
	int r = names_load(store, reader, INO_ROOT, &at);

	while (r == 0 && path) {
		struct inode *below;
		size_t len;

		path += strspn(path, "/");
		len = strcspn(path, "/");
		if (len == 0)
			break;
		r = names_lookup(store, reader, at, bytes_of(path, len), &below);
		inode_unref(store->inodes, at, 1);
		if (r < 0)
			return r;
		at = below;
		path += len;
	}
	if (r == 0)
		*out = at;
	return r;
}

/* What only a mount can know. */
static void put_unknown(json_t *answer)
{
	json_t *providers = json_object_get(answer, "providers"), *provider, *writer;
	const char *name;

	json_object_foreach(providers, name, provider) {
		ctl_put(provider, "state", json_string("not asked"));
		ctl_put(provider, "present", json_null());
		ctl_put(provider, "cause", json_string("not mounted"));
	}
	writer = json_object_get(answer, "writer");
	if (writer) {
		ctl_put(writer, "may_write", json_null());
		ctl_put(writer, "cause", json_string("not mounted"));
	}
	ctl_put(answer, "mounted", json_false());
}

int ctl_local_run(struct store *store, const json_t *request, const char *path, json_t **answer,
		  uint32_t *exit_code)
{
	const struct ctl_verb *verb =
		find_local_verb(json_string_value(json_object_get(request, "verb")));
	struct ctl_call call = {.store = store, .args = request};
	int r;

	if (!verb)
		return -EOPNOTSUPP;
	r = index_reader_open(store->index, &call.reader);
	if (r < 0)
		return r;
	r = look_up(store, call.reader, path, &call.inode);
	if (r == 0) {
		call.answer = json_object();
		ctl_put_common_keys(&call);
		*exit_code = verb->run(&call);
		put_unknown(call.answer);
		*answer = call.answer;
		inode_unref(store->inodes, call.inode, 1);
	}
	index_reader_close(call.reader);
	return r;
}
