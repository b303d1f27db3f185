#!/busybox sh
# First program of the lab's virtual machine (in its initramfs): makes the host's root, read-only
# over 9p under a writable layer in memory, the machine's own, and goes on there.
export PATH=/bin
/busybox mkdir -p /bin /proc /sys /dev /lower /layer /new
/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
for module in /modules/*; do
    insmod "$module" || echo "quorate-lab: cannot load $module"
done
options=trans=virtio,version=9p2000.L,msize=512000
mount -t 9p -o ro,cache=loose,$options host /lower &&
    mount -t tmpfs -o size=75% layer /layer &&
    mkdir /layer/upper /layer/work &&
    mount -t overlay -o lowerdir=/lower,upperdir=/layer/upper,workdir=/layer/work root /new ||
    { echo "quorate-lab: cannot mount the host's root"; poweroff -f; }
cd /new
mkdir -p proc sys dev tmp run
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t devtmpfs devtmpfs dev
mkdir -p dev/pts dev/shm
# What udev would make.
ln -s /proc/self/fd dev/fd
ln -s fd/0 dev/stdin
ln -s fd/1 dev/stdout
ln -s fd/2 dev/stderr
mount -t devpts -o gid=5,mode=620 devpts dev/pts
mount -t tmpfs shm dev/shm
mount -t tmpfs -o mode=1777 tmp tmp
mount -t tmpfs run run
mount -t cgroup2 cgroup sys/fs/cgroup
mount -t bpf bpf sys/fs/bpf
mkdir -p run/quorate-lab/control
mount -t 9p -o cache=none,$options control run/quorate-lab/control
cp /busybox run/quorate-lab/busybox
# The kernel's own request_module finds modprobe where it always looks, and modules where
# modprobe does: the host has perhaps neither.
. run/quorate-lab/control/settings
mkdir -p "/new/lib/modules/$(uname -r)"
mount --bind "/new$MODULES" "/new/lib/modules/$(uname -r)"
if [ -n "$ARTEFACTS" ]; then
    mkdir -p "/new$ARTEFACTS"
    mount -t 9p -o cache=none,$options artefacts "/new$ARTEFACTS"
fi
cd /
exec switch_root /new /run/quorate-lab/busybox sh /run/quorate-lab/control/start
