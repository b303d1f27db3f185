# Process 1 of the lab's virtual machine, on the host's root: runs the caller's command, hands back
# its output and status through what the host shares with it, and switches the machine off.
busybox=/run/quorate-lab/busybox
control=/run/quorate-lab/control
. $control/settings
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
$busybox ip link set lo up
# Should nobody be left to end this machine, it ends itself.
($busybox sleep "$SECONDS_AT_MOST"; $busybox poweroff -f) &

if [ "$INTERACTIVE" = yes ]; then
    # The size is forgotten when nobody has the terminal open, hence in the same session.
    $busybox setsid -c /bin/sh -c "
        $busybox stty rows $ROWS columns $COLUMNS
        exec /bin/sh $control/command
    " </dev/ttyS1 >/dev/ttyS1 2>&1
    echo $? >$control/status
else
    port=$($busybox grep -lx quorate.output /sys/class/virtio-ports/*/name)
    port=/dev/$($busybox basename "$($busybox dirname "$port")")
    # A port can be opened once only, but programs may open /dev/stderr again: hence the pipe.
    $busybox mkfifo /run/quorate-lab/output
    exec 3<>"$port"
    $busybox cat /run/quorate-lab/output >&3 &
    drain=$!
    # Reading ends when the caller has died without ending this machine. (It may also end at once,
    # before the other side is known to be there.)
    (
        $busybox cat <&3 >/dev/null
        $busybox sleep 1
        $busybox cat <&3 >/dev/null
        $busybox poweroff -f
    ) &
    /bin/sh $control/command </dev/null >/run/quorate-lab/output 2>&1 3<&-
    status=$?
    # A process left behind may hold the pipe open; what it says no longer matters.
    patience=20
    while kill -0 $drain 2>/dev/null && [ $patience -gt 0 ]; do
        patience=$((patience - 1))
        $busybox usleep 50000
    done
    echo $status >$control/status
fi
$busybox poweroff -f
