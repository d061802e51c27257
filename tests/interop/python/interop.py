"""The official Python client as a command: one JSON object a line for each message. See ../README.md."""

import argparse
import base64
import json
import os
import sys
import time

from rocketmq import ClientConfiguration, Credentials, FilterExpression, Message, Producer, SimpleConsumer
from rocketmq.grpc_protocol import FilterType


def main():
    options = arguments()
    {"send": send, "receive": receive, "change-invisible": change_invisible}[options.command](options)
    # The client leaves threads behind that would hold the process for a while.
    sys.stdout.flush()
    os._exit(0)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)

    both = argparse.ArgumentParser(add_help=False)
    both.add_argument("--endpoint", required=True)
    both.add_argument("--topic", required=True)
    both.add_argument("--count", type=int, default=1)

    producer = commands.add_parser("send", parents=[both])
    producer.add_argument("--tag")
    producer.add_argument("--key", action="append", default=[])
    producer.add_argument("--property", action="append", default=[], metavar="NAME=VALUE")
    producer.add_argument("--message-group")
    producer.add_argument("--delay-seconds", type=int)
    producer.add_argument("--body-prefix", default="body-")
    producer.add_argument("--body-size", type=int, default=0)

    reads = argparse.ArgumentParser(add_help=False, parents=[both])
    reads.add_argument("--group", required=True)
    reads.add_argument("--tag-filter", default="*")
    reads.add_argument("--sql-filter")
    reads.add_argument("--invisible-seconds", type=int, default=30)
    reads.add_argument("--await-seconds", type=int, default=5)
    reads.add_argument("--timeout-seconds", type=int, default=30)
    consumer = commands.add_parser("receive", parents=[reads])
    consumer.add_argument("--ack", action=argparse.BooleanOptionalAction, default=True)
    changer = commands.add_parser("change-invisible", parents=[reads])
    changer.add_argument("--change-to-seconds", type=int, default=3)
    return parser.parse_args()


def configuration(options):
    return ClientConfiguration(options.endpoint, Credentials())


def send(options):
    producer = Producer(configuration(options), (options.topic,), tls_enable=False)
    producer.startup()
    for index in range(options.count):
        body = body_of(options, index)
        message = Message()
        message.topic = options.topic
        message.body = body
        if options.tag:
            message.tag = options.tag
        for key in options.key:
            message.keys = key
        for pair in options.property:
            message.add_property(*pair.split("=", 1))
        if options.message_group:
            message.message_group = options.message_group
        if options.delay_seconds is not None:
            # Seconds, although its documentation says milliseconds.
            message.delivery_timestamp = int(time.time()) + options.delay_seconds
        receipt = producer.send(message)
        print_line({"event": "sent", "message_id": receipt.message_id, **described_body(body)})
    producer.shutdown()


def started_consumer(options):
    if options.sql_filter:
        expression = FilterExpression(options.sql_filter, FilterType.SQL)
    else:
        expression = FilterExpression(options.tag_filter)
    consumer = SimpleConsumer(
        configuration(options),
        options.group,
        {options.topic: expression},
        await_duration=options.await_seconds,
        tls_enable=False,
    )
    consumer.startup()
    # 5.1.2 does not wait for the answer to its settings (other client types do), and until the proxy has taken
    # them a receive fails with 50001.
    if not consumer._init_settings_event.wait(timeout=10):
        raise RuntimeError("the proxy did not answer the settings within 10 s")
    return consumer


def receive(options):
    consumer = started_consumer(options)
    deadline = time.monotonic() + options.timeout_seconds
    received = 0
    while received < options.count and time.monotonic() < deadline:
        for message in consumer.receive(min(32, options.count - received), options.invisible_seconds) or []:
            if options.ack:
                consumer.ack(message)
            print_line({**described(message), "acked": options.ack})
            received += 1
    consumer.shutdown()
    end(received, options.count)


def change_invisible(options):
    """Receives one message, asks for it again after some seconds, and receives until it comes back."""
    consumer = started_consumer(options)
    deadline = time.monotonic() + options.timeout_seconds
    first_id = None
    changed_at = 0
    received = 0
    while received < 2 and time.monotonic() < deadline:
        for message in consumer.receive(1, options.invisible_seconds) or []:
            line = described(message)
            if first_id is None:
                first_id = message.message_id
                consumer.change_invisible_duration(message, options.change_to_seconds)
                changed_at = time.monotonic()
                line["changed_to_seconds"] = options.change_to_seconds
            elif message.message_id == first_id:
                line["after_ms"] = int((time.monotonic() - changed_at) * 1000)
                consumer.ack(message)
                line["acked"] = True
            else:
                continue
            print_line(line)
            received += 1
    consumer.shutdown()
    end(received, 2)


def body_of(options, index):
    body = f"{options.body_prefix}{index}"
    while len(body) < options.body_size:
        body += f" {len(body)}"
    if options.body_size:
        body = body[: options.body_size]
    return body.encode()


def described(message):
    return {
        "event": "received",
        "message_id": message.message_id,
        "topic": message.topic,
        **described_body(message.body),
        "tag": message.tag,
        "keys": sorted(message.keys),
        "properties": dict(sorted(message.properties.items())),
        "message_group": message.message_group,
        "delivery_attempt": message.delivery_attempt,
        "born_timestamp": message.born_timestamp,
        "corrupted": message.corrupted,
    }


def described_body(body):
    """`body` is there for bodies that are UTF-8, `body_base64` always."""
    try:
        text = body.decode()
    except UnicodeDecodeError:
        text = None
    return {"body": text, "body_base64": base64.b64encode(body).decode(), "body_length": len(body)}


def end(received, expected):
    if received < expected:
        print(f"the time is over: received {received} of {expected}", file=sys.stderr, flush=True)
        sys.stdout.flush()
        os._exit(3)


def print_line(line):
    print(json.dumps(line, ensure_ascii=False), flush=True)


if __name__ == "__main__":
    try:
        main()
    except Exception as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        os._exit(1)
