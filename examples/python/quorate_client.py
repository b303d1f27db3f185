#!/usr/bin/env python3
"""A client of a Quorate node: prints the status, follows events, applies a configuration.

It shows the three things that every program needs of the API: errors with their details, a stream that
resumes, and a change that is made only of the revision that was read, and only once.
"""

import argparse
import os
import pathlib
import sys
import time

import grpc
from grpc_status import rpc_status

# The stubs are made of proto/ when this starts: grpcio-tools compiles it, and leaves no files.
ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "proto"))
api, services = grpc.protos_and_services("quorate/v1/admin.proto")

SOCKET = "unix:/run/quorate/quorate.sock"
# A node waits 15 s for a leader before it says that there is none.
TIMEOUT_S = 30
REPEATS_MAX = 3

# As those of the command line `quorate`.
EXIT_FAILED, EXIT_NO_QUORUM, EXIT_CONFLICT, EXIT_UNKNOWN = 1, 5, 6, 7


def detail_of(error):
    """The ErrorDetail of a failed call. It is empty where none came: the connection broke."""
    detail = api.ErrorDetail()
    status = rpc_status.from_call(error)
    for packed in status.details if status else []:
        if packed.Is(api.ErrorDetail.DESCRIPTOR):
            packed.Unpack(detail)
    return detail


def print_status(admin):
    status = admin.Status(api.StatusRequest(), timeout=TIMEOUT_S)
    if not status.member:
        print(f"{status.answered_by} belongs to no cluster")
        return
    cluster = status.cluster
    health = api.Health.Name(cluster.health).removeprefix("HEALTH_")
    print(
        f"{cluster.name}: {health}, revision {cluster.revision}, leader {cluster.leader or 'none'}, "
        f"{cluster.voters_reachable} of {cluster.voters} voters"
    )
    for group in status.groups:
        print(f"  {group.name} {', '.join(group.addresses)}: {group.owner or 'no owner'}, {group.reason}")


def follow_events(admin, after, count):
    """Prints events for ever, or so many. When the stream breaks it goes on after the last one.

    Sequences are those of one node: to go on elsewhere would be to begin anew there.
    """
    while count is None or count > 0:
        request = api.EventsRequest(follow=True)
        # Without it a stream begins with what happens from now on.
        if after is not None:
            request.after = after
        try:
            for event in admin.Events(request):
                if event.kind == "events_lost":
                    # The node keeps the newest 10,000. Read the status again to know how things are.
                    lost = event.lost if event.HasField("lost") else "nobody knows how many"
                    print(f"events are missing here: {lost}", flush=True)
                    continue
                after = event.sequence
                print(after, event.time, event.node, event.kind, event.group, event.reason, flush=True)
                if count is not None:
                    count -= 1
                    if count == 0:
                        return
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.UNAVAILABLE:
                raise
            print(f"the stream broke ({error.details()}), going on after {after}", file=sys.stderr)
        time.sleep(1)


class OutcomeUnknown(Exception):
    """Nobody can say whether a change was taken."""


def apply(admin, path, expected, confirm_s):
    """Applies a file. Without `expected` it takes the revision that is in force when it starts."""
    if expected is None:
        expected = admin.GetConfiguration(api.GetConfigurationRequest(), timeout=TIMEOUT_S).revision
    request = api.ApplyRequest(
        source=path.read_text(encoding="utf-8"),
        format=api.FORMAT_JSON if path.suffix == ".json" else api.FORMAT_TOML,
        expected_revision=expected,
        # The cluster knows a repetition by it: the same request may be sent again.
        request_id=os.urandom(16),
        message="applied by examples/python",
    )
    if confirm_s is not None:
        request.confirm_ms = confirm_s * 1000
    lost = False
    for repeat in range(REPEATS_MAX + 1):
        try:
            answer = admin.Apply(request, timeout=TIMEOUT_S)
        except grpc.RpcError as error:
            code = detail_of(error).code
            unknown = code == api.ERROR_CODE_UNKNOWN_OUTCOME or (
                code == api.ERROR_CODE_UNSPECIFIED
                and error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
            )
            # What the cluster says of the configuration is final; that it can't be asked now says nothing of
            # the try before.
            settled = code in (
                api.ERROR_CODE_CONFLICT,
                api.ERROR_CODE_INVALID,
                api.ERROR_CODE_UNCONFIRMED,
                api.ERROR_CODE_SETTLED,
            )
            if lost and not settled and not unknown:
                raise OutcomeUnknown(error.details()) from error
            if not unknown:
                raise
            if repeat == REPEATS_MAX:
                raise OutcomeUnknown(error.details()) from error
            lost = True
            time.sleep(1)
            continue
        print(f"revision {answer.revision}" + ("" if answer.changed else ", which it was already"))
        for warning in answer.warnings:
            print(warning, file=sys.stderr)
        if answer.HasField("unconfirmed_until"):
            print(f"it is taken back at {answer.unconfirmed_until} unless it is confirmed")
        return


def explain(error):
    """Says what a failed call means, and gives the exit code for it."""
    detail = detail_of(error)
    code = detail.code
    if code == api.ERROR_CODE_CONFLICT:
        print(
            f"conflict: revision {detail.revision} is in force. Read it, put your change into it, "
            f"and apply that with --expect {detail.revision}",
            file=sys.stderr,
        )
        return EXIT_CONFLICT
    if code in (api.ERROR_CODE_UNCONFIRMED, api.ERROR_CODE_SETTLED):
        print(f"revision {detail.revision} is in force: {error.details()}", file=sys.stderr)
        return EXIT_CONFLICT
    if code == api.ERROR_CODE_INVALID:
        for wrong in detail.violations:
            hint = f" ({wrong.hint})" if wrong.hint else ""
            print(f"{wrong.line}:{wrong.column}: {wrong.path}: {wrong.message}{hint}", file=sys.stderr)
        if detail.more_violations:
            print(f"and {detail.more_violations} more", file=sys.stderr)
        if not detail.violations:
            print(error.details(), file=sys.stderr)
        return EXIT_FAILED
    name = api.ErrorCode.Name(code).removeprefix("ERROR_CODE_") if code else error.code().name
    leader = f" (leader: {detail.leader})" if detail.HasField("leader") else ""
    print(f"{name}{leader}: {error.details()}", file=sys.stderr)
    if code == api.ERROR_CODE_NO_QUORUM:
        return EXIT_NO_QUORUM
    return EXIT_UNKNOWN if code == api.ERROR_CODE_UNKNOWN_OUTCOME else EXIT_FAILED


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--socket", default=SOCKET, help=f"the node (default {SOCKET})")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("status")
    events = commands.add_parser("events")
    events.add_argument("--after", type=int, help="only what follows the event of this sequence")
    events.add_argument("--count", type=int, help="end after so many")
    applying = commands.add_parser("apply")
    applying.add_argument("file", type=pathlib.Path)
    applying.add_argument("--expect", type=int, help="the revision that must be in force")
    applying.add_argument("--confirm", type=int, help="seconds within which it has to be confirmed")
    arguments = parser.parse_args()
    # Of a socket's path grpcio makes an :authority that HTTP/2 libraries, quorated's too, refuse.
    options = [("grpc.default_authority", "localhost")]
    with grpc.insecure_channel(arguments.socket, options) as channel:
        admin = services.AdminStub(channel)
        try:
            if arguments.command == "status":
                print_status(admin)
            elif arguments.command == "events":
                follow_events(admin, arguments.after, arguments.count)
            else:
                apply(admin, arguments.file, arguments.expect, arguments.confirm)
        except OutcomeUnknown as error:
            print(f"it is not known whether that was taken: {error}. Look at the revision in force", file=sys.stderr)
            return EXIT_UNKNOWN
        except grpc.RpcError as error:
            return explain(error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
