"""A proxy that breaks connections, for tests of the client: cutting_proxy.py PLAN READY TARGET_FILE

Listens on a free port of 127.0.0.1, writes it to READY, and passes bytes on to the port that stands in TARGET_FILE (read for each
connection, so that the server may come back on another one). PLAN is a file of rules, one for each connection that matches, in order:

    TEXT up N      after N bytes from the client
    TEXT answer    when the server begins to answer: nothing of the answer is passed on
    TEXT down N    after N bytes from the server

A connection matches when the bytes of its client that have come so far hold TEXT. Each rule breaks one connection; a line of what it
did goes to standard output.
"""
import os
import socket
import sys
import threading

plan_file, ready_file, target_file = sys.argv[1:4]
lock = threading.Lock()
with open(plan_file) as lines:
    rules = [line.split() for line in lines if line.strip()]


def take_rule(head):
    with lock:
        if rules and rules[0][0].encode() in head:
            return rules.pop(0)
    return None


class Link:
    def __init__(self, client):
        self.client = client
        with open(target_file) as text:
            port = int(text.read())
        self.server = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.server.settimeout(None)
        self.head = b""
        self.rule = None
        self.up = self.down = 0

    def cut(self):
        print("cut", *self.rule, flush=True)
        for end in (self.client, self.server):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def pump_up(self):
        while data := self.client.recv(16384):
            self.head = (self.head + data)[-65536:]
            if self.rule is None:
                self.rule = take_rule(self.head)
                self.up = 0
            if self.rule is not None and self.rule[1] == "up" and self.up + len(data) >= int(self.rule[2]):
                self.server.sendall(data[: max(0, int(self.rule[2]) - self.up)])
                return self.cut()
            self.up += len(data)
            self.server.sendall(data)

    def pump_down(self):
        while data := self.server.recv(16384):
            if self.rule is not None and self.rule[1] == "answer":
                return self.cut()
            if self.rule is not None and self.rule[1] == "down" and self.down + len(data) >= int(self.rule[2]):
                self.client.sendall(data[: max(0, int(self.rule[2]) - self.down)])
                return self.cut()
            self.down += len(data)
            self.client.sendall(data)

    def run(self, pump, to):
        try:
            pump()
        except OSError:
            pass
        try:
            to.shutdown(socket.SHUT_WR)
        except OSError:
            pass


listener = socket.create_server(("127.0.0.1", 0))
with open(ready_file + ".new", "w") as out:
    out.write("%d\n" % listener.getsockname()[1])
os.replace(ready_file + ".new", ready_file)
while True:
    connection, _ = listener.accept()
    try:
        link = Link(connection)
    except OSError:
        connection.close()
        continue
    threading.Thread(target=link.run, args=(link.pump_up, link.server), daemon=True).start()
    threading.Thread(target=link.run, args=(link.pump_down, link.client), daemon=True).start()
