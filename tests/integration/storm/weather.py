"""What changes around the clients: configurations, certificates, mistakes in both."""

import datetime
import random
import threading
import time

PAUSE_SECONDS = 0.4


class Weather:
    """A thread that reloads and swaps until `stop()`, and knows what held when."""

    def __init__(self, seed, program, texts, authority, files):
        self.program, self.texts, self.authority, self.files = program, texts, authority, files
        self.rng = random.Random(f"{seed}/weather")
        self.now = "a"
        self.spans = [["a", 0.0, float("inf")]]  # a configuration, since when and until when
        self.serials, self.counts = [], {"reloads": 0, "mistakes": 0, "certificates": 0}
        self.failure = None
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.run)

    def start(self):
        self.thread.start()
        return self

    def stop(self):
        """Fair weather: the first configuration, and a certificate that everybody has heard of."""
        self.ended.set()
        self.thread.join()
        if self.failure:
            raise self.failure
        if self.now != "a":
            self.change()

    def run(self):
        try:
            while not self.ended.is_set():
                turns = [self.change, self.change, self.swap, self.mistake]
                for turn in self.rng.sample(turns, len(turns)):
                    turn()
                    self.ended.wait(PAUSE_SECONDS * (0.5 + self.rng.random()))
        except Exception as failure:  # noqa: BLE001  told by stop()
            self.failure = failure

    def change(self):
        """To the other configuration; both are possible while it happens."""
        self.now = "b" if self.now == "a" else "a"
        before = self.spans[-1]
        self.spans.append([self.now, time.time(), float("inf")])
        self.program.reload(self.texts[self.now])
        before[2] = time.time()
        self.counts["reloads"] += 1

    def mistake(self):
        """A reload that is refused changes nothing."""
        failures = self.program.metric("reload_failures_total")
        self.program.reload(self.texts["b"].replace("upstream =", "upsteam ="))
        assert self.program.metric("reload_failures_total") == failures + 1, "a mistake was taken"
        self.program.write_config(self.texts[self.now])
        self.counts["mistakes"] += 1

    def swap(self):
        """Other files for the certificate, one after the other as any tool would."""
        self.serials.append(issue(self.authority, self.files))
        self.counts["certificates"] += 1
        if self.rng.random() < 0.5:
            self.program.reload()

    def possible(self, begun, ended):
        """The configurations that a request between the two may have met."""
        return {name for name, since, until in self.spans if since <= ended and begun <= until}


def issue(authority, files):
    """A new certificate and key in the place of the old; its serial number."""
    from cryptography import x509
    texts = authority.issue(["example.test", "*.example.test"], datetime.timedelta(days=90))
    for path, text in zip(files, texts, strict=True):
        fresh = path.with_suffix(".new")
        fresh.write_text(text)
        fresh.rename(path)
    return x509.load_pem_x509_certificate(texts[0].encode()).serial_number
