# SPDX-License-Identifier: Apache-2.0
"""A small containerd: speaks ttrpc to the shim, and takes its events. protobuf by field numbers, without its library."""
import os, socket, struct, subprocess, threading, time


class Error(Exception):
    def __init__(self, code, text):
        super().__init__("code %d: %s" % (code, text))
        self.code, self.text = code, text


NOT_FOUND, EXISTS, PRECONDITION, UNIMPLEMENTED, INVALID = 5, 6, 9, 12, 3


def varint(n):
    n &= (1 << 64) - 1
    out = b""
    while n > 127:
        out, n = out + bytes([n & 127 | 128]), n >> 7
    return out + bytes([n])


def encode(fields):
    """{number: int, str, bytes, a list of them, or {..} for a message}"""
    out = b""
    for number, value in fields.items():
        for v in value if isinstance(value, list) else [value]:
            if isinstance(v, dict):
                v = encode(v)
            if isinstance(v, str):
                v = v.encode()
            out += varint(number << 3) + varint(int(v)) if isinstance(v, (int, bool)) else \
                varint(number << 3 | 2) + varint(len(v)) + v
    return out


def decode(data):
    """{number: [values]}: ints and bytes"""
    fields, i = {}, 0

    def take():
        nonlocal i
        n = shift = 0
        while True:
            b = data[i]
            i, n, shift = i + 1, n | (b & 127) << shift, shift + 7
            if b < 128:
                return n
    while i < len(data):
        key = take()
        if key & 7 == 0:
            v = take()
        else:
            assert key & 7 == 2, key
            n = take()
            v, i = data[i:i + n], i + n
        fields.setdefault(key >> 3, []).append(v)
    return fields


def one(fields, number, default=b""):
    return fields.get(number, [default])[0]


def text(fields, number):
    return one(fields, number).decode()


def read_frame(f):
    head = f.read(10)
    if len(head) < 10:
        raise EOFError
    size, stream, kind, flags = struct.unpack(">IIBB", head)
    return stream, kind, f.read(size)


def frame(stream, kind, data):
    return struct.pack(">IIBB", len(data), stream, kind, 0) + data


class Events:
    """containerd's side of the events: an event is (topic, {number: value}), in order."""

    def __init__(self, path):
        self.path, self.seen, self.lock = path, [], threading.Condition()
        self.listen()

    def listen(self):
        if os.path.exists(self.path):
            os.unlink(self.path)
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(self.path)
        self.socket.listen(64)
        self.open = []
        threading.Thread(target=self.serve, args=(self.socket,), daemon=True).start()

    def close(self):
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        os.unlink(self.path)
        for c in self.open:
            try:
                c.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def serve(self, listener):
        while True:
            try:
                c, _ = listener.accept()
            except OSError:
                return
            self.open.append(c)
            threading.Thread(target=self.take, args=(c,), daemon=True).start()

    def take(self, c):
        f = c.makefile("rb")
        try:
            while True:
                stream, kind, data = read_frame(f)
                envelope = decode(one(decode(one(decode(data), 3)), 1))
                event = decode(one(envelope, 4))
                # What is not answered comes again: seen is what has been answered.
                c.sendall(frame(stream, 2, encode({1: {}, 2: b""})))
                with self.lock:
                    self.seen.append((text(envelope, 3), text(event, 1), decode(one(event, 2))))
                    self.lock.notify_all()
        except (EOFError, OSError):
            pass

    def topics(self, ident=None):
        with self.lock:
            return [t for t, _, e in self.seen if ident is None or text(e, 1) == ident]

    def wait(self, topic, ident, count=1, seconds=10):
        with self.lock:
            def there():
                return [e for t, _, e in self.seen if t == topic and text(e, 1) == ident]
            if not self.lock.wait_for(lambda: len(there()) >= count, seconds):
                raise AssertionError("no event %s of %s; seen: %s" % (topic, ident, [t for t, _, _ in self.seen]))
            return there()[-1]


class Client:
    """One connection to a shim; many threads may call."""

    def __init__(self, address):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(address.replace("unix://", ""))
        self.file, self.lock = self.socket.makefile("rb"), threading.Condition()
        self.stream, self.answers, self.dead = 1, {}, False
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        try:
            while True:
                stream, kind, data = read_frame(self.file)
                with self.lock:
                    self.answers[stream] = decode(data)
                    self.lock.notify_all()
        except (EOFError, OSError, ValueError):
            with self.lock:
                self.dead = True
                self.lock.notify_all()

    def close(self):
        try:
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.socket.close()

    def send(self, method, fields, timeout=0, service="containerd.task.v2.Task"):
        with self.lock:
            stream, self.stream = self.stream, self.stream + 2
            self.socket.sendall(frame(stream, 1, encode(
                {1: service, 2: method, 3: encode(fields), 4: int(timeout * 1e9)})))
        return stream

    def receive(self, stream, seconds=60):
        with self.lock:
            if not self.lock.wait_for(lambda: stream in self.answers or self.dead, seconds):
                raise AssertionError("no answer")
            if stream not in self.answers:
                raise EOFError("the shim has closed the connection")
            answer = self.answers.pop(stream)
        status = decode(one(answer, 1))
        if one(status, 1, 0):
            raise Error(one(status, 1, 0), text(status, 2))
        return decode(one(answer, 2))

    def call(self, method, fields, **more):
        return self.receive(self.send(method, fields, **more))
