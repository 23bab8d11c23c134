/* SPDX-License-Identifier: Apache-2.0 */
#include "util/notify.h"

#include <criterion/criterion.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* A service manager with a socket in the abstract namespace. */
static int manager(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	char name[64];
	int len = snprintf(name, sizeof(name), "@shardfs-test-%ld", (long)getpid());

	memcpy(address.sun_path, name, (size_t)len);
	address.sun_path[0] = '\0';
	cr_assert_eq(bind(fd, (struct sockaddr *)&address,
			  (socklen_t)(offsetof(struct sockaddr_un, sun_path) + (size_t)len)), 0);
	setenv("NOTIFY_SOCKET", name, 1);
	return fd;
}

static const char *received(int fd)
{
	static char text[1024];
	ssize_t n = recv(fd, text, sizeof(text) - 1, 0);

	text[n > 0 ? n : 0] = '\0';
	return text;
}

Test(util_notify, the_manager_hears_each_state)
{
	int fd = manager();
	char expected[128];

	notify_ready("mounted");
	snprintf(expected, sizeof(expected), "READY=1\nMAINPID=%ld\nSTATUS=mounted",
		 (long)getpid());
	cr_assert_str_eq(received(fd), expected);
	notify_stopping();
	cr_assert_str_eq(received(fd), "STOPPING=1");
	notify_watchdog();
	cr_assert_str_eq(received(fd), "WATCHDOG=1");
	notify_ready(NULL);
	cr_assert_eq(strncmp(received(fd), "READY=1\n", 8), 0);
	close(fd);
}

Test(util_notify, without_a_manager_nothing_happens)
{
	char longer[256];

	unsetenv("NOTIFY_SOCKET");
	notify_ready("x");
	setenv("NOTIFY_SOCKET", "relative", 1);
	notify_ready("x");
	setenv("NOTIFY_SOCKET", "@", 1);
	notify_ready("x");
	setenv("NOTIFY_SOCKET", "/nonexistent/socket", 1);
	notify_ready("x");
	memset(longer, '/', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = '\0';
	setenv("NOTIFY_SOCKET", longer, 1);
	notify_ready("x");
}
