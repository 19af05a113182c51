"""A queue behind TLS, by certificates of our own; the embedded server speaks none, so a proxy does it for it."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from millrace.embedded import Embedded
from millrace_pipeline.errors import QueueMisuse, QueueUnavailable
from millrace_pipeline.redis.address import Address
from millrace_pipeline.redis.preflight import preflight
from tests.integration.verbs import Load, every_verb_works, lines
from tests.queues import Queue


class Authority:
    """A CA, which writes certificates into a folder."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.file = folder / f"{name}.pem"
        builder = self._builder(self._name, self._key).add_extension(x509.BasicConstraints(True, None), True)
        self.file.write_bytes(_pem(builder.sign(self._key, hashes.SHA256())))

    def certify(self, name: str, *, days: int = 1) -> tuple[Path, Path]:
        """A certificate and its key, for a client or a server at 127.0.0.1; negative days are over already."""
        key = ec.generate_private_key(ec.SECP256R1())
        at = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName(name)])
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        signed = self._builder(subject, key, days).add_extension(at, False).sign(self._key, hashes.SHA256())
        files = self._folder / f"{name}.pem", self._folder / f"{name}.key"
        files[0].write_bytes(_pem(signed))
        files[1].write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return files

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, days: int = 1) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=9))
            .not_valid_after(now + datetime.timedelta(days=days))
        )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


class Terminator:
    """Speaks TLS on `port` and passes what it hears on to a server that doesn't."""

    def __init__(self, server: int, certificate: tuple[Path, Path], *, clients_by: Path | None = None) -> None:
        self._server = server
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=clients_by)
        self._context.load_cert_chain(*certificate)
        if clients_by is not None:
            self._context.verify_mode = ssl.CERT_REQUIRED
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._open: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Ends every connection."""
        for end in list(self._open):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client:
            client.settimeout(5)
            inside = self._context.wrap_socket(client, server_side=True, do_handshake_on_connect=False)
            try:
                inside.do_handshake()
            except ssl.SSLError:
                with socket.socket(fileno=inside.detach()) as left:
                    _hang_up_slowly(left)
                return
            with inside, socket.create_connection(("127.0.0.1", self._server)) as outside:
                self._open |= {inside, outside}
                inside.settimeout(None)
                back = threading.Thread(target=_pass_on, args=(outside, inside), daemon=True)
                back.start()
                _pass_on(inside, outside)
                back.join()
                self._open -= {inside, outside}


def _hang_up_slowly(client: socket.socket) -> None:
    """Closes once the other side has, so that a reset doesn't overtake what TLS said to it last."""
    client.shutdown(socket.SHUT_WR)
    while client.recv(4096):
        pass


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_RDWR)


@pytest.fixture(scope="module")
def server() -> Iterator[Embedded]:
    with Embedded() as server:
        yield server


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ours"), "ours")


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("theirs"), "theirs")


@pytest.fixture(scope="module")
def tls(server: Embedded, ours: Authority) -> Iterator[Terminator]:
    terminator = Terminator(server.port or 0, ours.certify("localhost"))
    yield terminator
    terminator.close()


@pytest.fixture(scope="module")
def mutual(server: Embedded, ours: Authority) -> Iterator[Terminator]:
    """Asks clients for a certificate, too."""
    terminator = Terminator(server.port or 0, ours.certify("server"), clients_by=ours.file)
    yield terminator
    terminator.close()


def refused(url: str) -> str:
    """What a queue says that can't use this address, however often it tries."""
    with pytest.raises(QueueMisuse) as caught:
        Queue(url, "refused").publish(lines(1))
    (finding,) = preflight(url)
    assert (finding.level, finding.lasting) == ("error", True)
    assert finding.message == str(caught.value)
    return str(caught.value)


def test_every_verb_works_behind_tls(tls: Terminator, ours: Authority) -> None:
    url = f"rediss://127.0.0.1:{tls.port}/0?ssl_ca_certs={ours.file}"
    every_verb_works(url, "behind-tls")
    assert any(f.level == "ok" and "TLS" in f.message for f in preflight(url))


def test_connections_that_are_cut_lose_and_double_nothing(tls: Terminator, ours: Authority) -> None:
    url = f"rediss://127.0.0.1:{tls.port}/0?ssl_ca_certs={ours.file}"
    with Load(url, "cut") as load:
        for _ in range(5):
            load.more(50)
            tls.cut()
        load.drain()
        assert sorted(load.written) == sorted(set(load.written))
        assert len(load.written) == len(load.acknowledged)


def test_a_certificate_of_a_ca_we_do_not_know_is_refused_with_the_mend(tls: Terminator, theirs: Authority) -> None:
    for url in (
        f"rediss://127.0.0.1:{tls.port}/0",
        f"rediss://127.0.0.1:{tls.port}/0?ssl_ca_certs={theirs.file}",
    ):
        assert "certificate is not trusted" in refused(url)
        assert "?ssl_ca_certs=" in refused(url)


def test_a_certificate_for_another_host_is_refused_unless_names_are_not_checked(
    server: Embedded, ours: Authority
) -> None:
    certificate, key = ours.certify("elsewhere")
    terminator = Terminator(server.port or 0, (certificate, key))
    try:
        url = f"rediss://localhost:{terminator.port}/0?ssl_ca_certs={ours.file}"
        assert "localhost" in refused(url)
        Queue(f"{url}&ssl_check_hostname=false", "other-name").lag()
    finally:
        terminator.close()


def test_a_certificate_that_is_over_is_refused(server: Embedded, ours: Authority) -> None:
    terminator = Terminator(server.port or 0, ours.certify("over", days=-1))
    try:
        assert "expired" in refused(f"rediss://127.0.0.1:{terminator.port}/0?ssl_ca_certs={ours.file}")
    finally:
        terminator.close()


def test_a_certificate_that_nobody_checks_is_warned_of(tls: Terminator) -> None:
    url = f"rediss://127.0.0.1:{tls.port}/0?ssl_cert_reqs=none"
    Queue(url, "unchecked").lag()
    finding = next(f for f in preflight(url) if "TLS" in f.message)
    assert (finding.level, "ssl_ca_certs" in finding.mend) == ("warning", True)


def test_a_server_that_asks_for_our_certificate_gets_it(mutual: Terminator, ours: Authority) -> None:
    certificate, key = ours.certify("client")
    url = f"rediss://127.0.0.1:{mutual.port}/0?ssl_ca_certs={ours.file}&ssl_certfile={certificate}&ssl_keyfile={key}"
    every_verb_works(url, "mutual")


def test_a_server_that_does_not_trust_our_certificate_is_not_tried_for_ever(
    mutual: Terminator, ours: Authority, theirs: Authority
) -> None:
    url = f"rediss://127.0.0.1:{mutual.port}/0?ssl_ca_certs={ours.file}"
    assert "ssl_certfile" in refused(url)
    certificate, key = theirs.certify("client")
    assert "refuses our certificate" in refused(f"{url}&ssl_certfile={certificate}&ssl_keyfile={key}")


def test_tls_to_a_port_that_answers_in_plain_text_is_refused_with_the_mend() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, contextlib.ExitStack() as stack:

        def answer() -> None:
            with contextlib.suppress(OSError):
                while True:
                    client = stack.enter_context(listener.accept()[0])
                    client.recv(4096)
                    client.sendall(b"-ERR unknown command\r\n")

        threading.Thread(target=answer, daemon=True).start()
        assert "write redis:// for rediss://" in refused(f"rediss://127.0.0.1:{listener.getsockname()[1]}/0")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("ssl_ca_certs=/no/such/file.pem", "can't use /no/such/file.pem: .*No such file"),
        ("ssl_ca_certs={here}", "can't use"),
        ("ssl_certfile={here}", "can't use"),
        ("ssl_keyfile={here}", "can't use"),
        ("ssl_cert_reqs=maybe", "not a Redis address"),
        ("ssl_nonsense=1", "not a Redis address"),
        ("retry_on_timeout=yes", "unknown option 'retry_on_timeout'"),
    ],
)
def test_an_option_that_is_wrong_is_named_before_anything_is_sent(options: str, message: str) -> None:
    with pytest.raises(QueueMisuse, match=message):
        Address(f"rediss://127.0.0.1:1/0?{options.format(here=__file__)}")


def test_a_server_that_is_away_is_waited_for_all_the_same(server: Embedded, ours: Authority) -> None:
    terminator = Terminator(server.port or 0, ours.certify("localhost"))
    queue = Queue(f"rediss://127.0.0.1:{terminator.port}/0?ssl_ca_certs={ours.file}", "away")
    queue.publish(lines(1))
    terminator.close()
    queue.give_up.set()
    with pytest.raises(QueueUnavailable):
        queue.publish(lines(2))
    assert queue.outage
