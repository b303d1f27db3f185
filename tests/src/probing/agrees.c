// For the bench of probing, on a kernel without ip_vs: preloaded into Keepalived, it answers "done" to what
// that asks of IPVS by setsockopt(2) and getsockopt(2) (IP_VS_BASE_CTL and up, linux/ip_vs.h), and lets
// all else pass. Its checkers start then, and probe as ever; there is no table that could follow.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

enum { FIRST = 64 + 1024 + 64, COUNT = 64 };

static int is_ipvs(int level, int name)
{
	return level == IPPROTO_IP && name >= FIRST && name < FIRST + COUNT;
}

int setsockopt(int fd, int level, int name, const void *value, socklen_t length)
{
	static int (*next)(int, int, int, const void *, socklen_t);
	if (is_ipvs(level, name))
		return 0;
	if (!next)
		next = dlsym(RTLD_NEXT, "setsockopt");
	return next(fd, level, name, value, length);
}

int getsockopt(int fd, int level, int name, void *value, socklen_t *length)
{
	static int (*next)(int, int, int, void *, socklen_t *);
	// struct ip_vs_getinfo: version 1.2.1, 4096 hash buckets, no services.
	static const unsigned int info[] = { 0x010201, 4096, 0 };
	if (is_ipvs(level, name)) {
		memset(value, 0, *length);
		memcpy(value, info, *length < sizeof(info) ? *length : sizeof(info));
		return 0;
	}
	if (!next)
		next = dlsym(RTLD_NEXT, "getsockopt");
	return next(fd, level, name, value, length);
}
