// The fence (design §4): drops what is for a VIP, and what is from one, unless an unexpired lease
// holds it open. Runs at tc ingress and egress of every device but lo. Decides by the clock alone,
// so it closes with no process of ours running. Built by `cargo xtask bpf` to fence.o, which
// crates/dataplane/src/fence loads. Tests: tests/tests/lab_host_fence.rs.
//
// The few kernel definitions that it needs (stable, include/uapi/linux/bpf.h) stand here, so that
// the object depends on no headers and comes out the same on every machine.

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

struct __sk_buff { // its first members
	u32 len, pkt_type, mark, queue_mapping, protocol, vlan_present, vlan_tci, vlan_proto;
	u32 priority, ingress_ifindex;
};
struct bpf_map_def { u32 type, key_size, value_size, max_entries, map_flags; };

static void *(*lookup)(void *map, const void *key) = (void *)1;
static long (*load_bytes)(const void *skb, u32 offset, void *to, u32 length) = (void *)26;
static u64 (*boot_ns)(void) = (void *)125; // CLOCK_BOOTTIME; Linux 5.8

#define SECTION(name) __attribute__((section(name), used))
#define INLINE static inline __attribute__((always_inline))
#define BE16(x) __builtin_bswap16(x)
enum { HASH = 1, ARRAY = 2, NO_PREALLOC = 1, MMAPABLE = 1 << 10, VIPS_AT_MOST = 4096 };
enum { NEXT_FILTER = -1, SHOT = 2 };
enum { OTHERHOST = 3, ETHERNET = 14 };

// VIP (IPv4 as ::ffff:a.b.c.d) to slot, and slot to deadline. Slots start at 0: closed.
struct bpf_map_def SECTION("maps") vips = { HASH, 16, 4, VIPS_AT_MOST, NO_PREALLOC };
struct bpf_map_def SECTION("maps") slots = { ARRAY, 4, 8, VIPS_AT_MOST, MMAPABLE };
// No helper above is for GPL programs only, so the licence is the project's.
char SECTION("license") licence[] = "MIT OR Apache-2.0";

struct key { u32 word[4]; };

INLINE int closed(const struct key *key)
{
	u32 *slot = lookup(&vips, key);
	if (!slot)
		return 0;
	volatile u64 *deadline = lookup(&slots, slot);
	return !deadline || boot_ns() >= *deadline;
}

INLINE int closed4(u32 address)
{
	struct key key = { { 0, 0, BE16(0xffff) << 16, address } };
	return closed(&key);
}

// `at`: where the network header begins. What is too short to be read is no packet to the stack
// either, and passes.
INLINE int verdict(struct __sk_buff *skb, u16 protocol, u32 at, int incoming)
{
	// Frames that a bridge passes between others: coming in they are addressed to another host;
	// going out they are so still, and came in by some device. What this host sends did not.
	int bridged = skb->pkt_type == OTHERHOST && (incoming || skb->ingress_ifindex);

	if (protocol == BE16(0x0800)) {
		u32 address;
		if (bridged || load_bytes(skb, at + (incoming ? 16 : 12), &address, 4))
			return NEXT_FILTER;
		return closed4(address) ? SHOT : NEXT_FILTER;
	}
	if (protocol == BE16(0x0806)) {
		struct { u16 hw, proto; u8 hlen, plen; u16 op; u8 sha[6], spa[4], tha[6], tpa[4]; } arp;
		u32 sender, target;
		if (load_bytes(skb, at, &arp, sizeof(arp)) || (!incoming && bridged))
			return NEXT_FILTER;
		__builtin_memcpy(&sender, arp.spa, 4);
		__builtin_memcpy(&target, arp.tpa, 4);
		// The owner's gratuitous ARP names the VIP as both. It asks nothing, and this host's
		// own neighbour cache needs it.
		if (incoming)
			return sender != target && closed4(target) ? SHOT : NEXT_FILTER;
		return closed4(sender) ? SHOT : NEXT_FILTER;
	}
	if (protocol == BE16(0x86dd)) {
		struct key key;
		u8 next = 0, type = 0;
		if (load_bytes(skb, at + (incoming ? 24 : 8), &key, 16))
			return NEXT_FILTER;
		if (!bridged && closed(&key))
			return SHOT;
		// Neighbour solicitation (135) coming in, advertisement (136) going out: the target.
		load_bytes(skb, at + 6, &next, 1);
		load_bytes(skb, at + 40, &type, 1);
		if (next != 58 || type != (incoming ? 135 : 136) || (!incoming && bridged) ||
		    load_bytes(skb, at + 48, &key, 16))
			return NEXT_FILTER;
		return closed(&key) ? SHOT : NEXT_FILTER;
	}
	return NEXT_FILTER;
}

INLINE int ethernet(struct __sk_buff *skb, int incoming)
{
	u16 protocol = 0;
	load_bytes(skb, 12, &protocol, 2);
	if (protocol != BE16(0x8100) && protocol != BE16(0x88a8))
		return verdict(skb, protocol, ETHERNET, incoming);
	// A VLAN tag within the frame; most devices keep it beside.
	load_bytes(skb, 16, &protocol, 2);
	return verdict(skb, protocol, ETHERNET + 4, incoming);
}

SECTION("classifier/ether_in") int quorate_in(struct __sk_buff *skb) { return ethernet(skb, 1); }
SECTION("classifier/ether_out") int quorate_out(struct __sk_buff *skb) { return ethernet(skb, 0); }
// Devices without a link-layer header (tunnels, WireGuard, PPP).
SECTION("classifier/bare_in") int quorate_l3_in(struct __sk_buff *skb)
{
	return verdict(skb, skb->protocol, 0, 1);
}
SECTION("classifier/bare_out") int quorate_l3_out(struct __sk_buff *skb)
{
	return verdict(skb, skb->protocol, 0, 0);
}
