#include "io/stream_socket.h"

#include <doctest/doctest.h>

#include <thread>

#include "net.h"

using namespace arca;
using namespace arca::test;

namespace {

Endpoint unix_endpoint(const std::string& path) {
  return {.transport = Transport::kUnix, .path = path};
}

std::string content_of(const std::string& path) { return read_file(path); }

void write_file(const std::string& path, const std::string& text) {
  UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
  REQUIRE(::write(fd.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size()));
}

}  // namespace

TEST_CASE("Listener: a stale socket file is replaced, and removed with the listener") {
  ScratchDirectory scratch;
  const std::string path = scratch / "s";
  listen_at(path);  // closed at once: only its file is left
  REQUIRE(exists(path));
  REQUIRE_FALSE(connect_to(path));
  {
    Result<Listener> listener = Listener::open(unix_endpoint(path));
    REQUIRE(listener.ok());
    CHECK(connect_to(path));
  }
  CHECK_FALSE(exists(path));
}

TEST_CASE("Listener: a socket in use is refused, and its owner notices nothing") {
  ScratchDirectory scratch;
  const std::string path = scratch / "s";
  Result<Listener> first = Listener::open(unix_endpoint(path));
  REQUIRE(first.ok());
  Result<Listener> second = Listener::open(unix_endpoint(path));
  REQUIRE_FALSE(second.ok());
  CHECK(second.error().code == EADDRINUSE);
  // Not even a connection: with --on-second-peer replace it would throw the peer out.
  Result<Listener::Accepted> nobody = first.value().accept();
  REQUIRE_FALSE(nobody.ok());
  CHECK(nobody.error().code == EAGAIN);
  CHECK(connect_to(path));
}

TEST_CASE("Listener: a socket that is bound but does not listen yet is in use") {
  ScratchDirectory scratch;
  const std::string path = scratch / "s";
  UniqueFd other(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const sockaddr_un address = unix_address(path);
  REQUIRE(::bind(other.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
  CHECK(Listener::open(unix_endpoint(path)).error().code == EADDRINUSE);
  REQUIRE(::listen(other.get(), 1) == 0);
  CHECK(connect_to(path));
}

TEST_CASE("Listener: a socket of another kind is in use") {
  ScratchDirectory scratch;
  const std::string path = scratch / "s";
  UniqueFd other(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  const sockaddr_un address = unix_address(path);
  REQUIRE(::bind(other.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
  CHECK(Listener::open(unix_endpoint(path)).error().code == EADDRINUSE);
  CHECK(exists(path));
}

TEST_CASE("Listener: what is no socket is never removed") {
  ScratchDirectory scratch;
  const std::string path = scratch / "precious";
  SUBCASE("a file") {
    write_file(path, "keep me");
    CHECK(Listener::open(unix_endpoint(path)).error().code == EADDRINUSE);
    CHECK(content_of(path) == "keep me");
  }
  SUBCASE("a link to a stale socket") {
    listen_at(scratch / "stale");
    REQUIRE(::symlink((scratch / "stale").c_str(), path.c_str()) == 0);
    CHECK(Listener::open(unix_endpoint(path)).error().code == EADDRINUSE);
    CHECK(exists(path));
    CHECK(exists(scratch / "stale"));
  }
  SUBCASE("a directory") {
    REQUIRE(::mkdir(path.c_str(), 0700) == 0);
    CHECK(Listener::open(unix_endpoint(path)).error().code == EADDRINUSE);
    CHECK(::rmdir(path.c_str()) == 0);
  }
}

TEST_CASE("Listener removes only the file that it made") {
  ScratchDirectory scratch;
  const std::string path = scratch / "s";
  std::optional<Listener> old;
  old.emplace(std::move(Listener::open(unix_endpoint(path)).value()));
  REQUIRE(::unlink(path.c_str()) == 0);
  Result<Listener> successor = Listener::open(unix_endpoint(path));
  REQUIRE(successor.ok());
  old.reset();
  CHECK(connect_to(path));
}

TEST_CASE("Listener can be opened again at once") {
  ScratchDirectory scratch;
  for (int i = 0; i < 50; ++i) {
    Result<Listener> listener = Listener::open(unix_endpoint(scratch / "s"));
    REQUIRE(listener.ok());
    REQUIRE(connect_to(scratch / "s"));
  }
}

TEST_CASE("Listener and start_connect refuse a path that unix(7) can't hold") {
  ScratchDirectory scratch;
  const std::string longest = scratch / std::string(107 - (scratch / "").size(), 'x');
  REQUIRE(longest.size() == 107);
  CHECK(Listener::open(unix_endpoint(longest)).ok());
  for (const std::string& path : {longest + "y", std::string(), std::string(300, 'x')}) {
    CAPTURE(path);
    const int code = path.empty() ? EINVAL : ENAMETOOLONG;
    CHECK(Listener::open(unix_endpoint(path)).error().code == code);
    CHECK(start_connect(unix_endpoint(path)).error().code == code);
  }
  CHECK_FALSE(exists(longest));
}

TEST_CASE("Listener tells the errors of bind") {
  CHECK(Listener::open(unix_endpoint("/nonexistent/s")).error().code == ENOENT);
  CHECK(Listener::open(unix_endpoint("/proc/s")).ok() == false);
}

TEST_CASE("Listener::accept tells who came") {
  ScratchDirectory scratch;
  Result<Listener> listener = Listener::open(unix_endpoint(scratch / "s"));
  REQUIRE(listener.ok());
  CHECK(listener.value().accept().error().code == EAGAIN);
  const UniqueFd client = connect_to(scratch / "s");
  Result<Listener::Accepted> accepted = listener.value().accept();
  REQUIRE(accepted.ok());
  CHECK(accepted.value().peer.transport == Transport::kUnix);
  CHECK(accepted.value().peer.pid == ::getpid());
  const int flags = ::fcntl(accepted.value().fd.get(), F_GETFL);
  CHECK((flags & O_NONBLOCK) != 0);
  CHECK((::fcntl(accepted.value().fd.get(), F_GETFD) & FD_CLOEXEC) != 0);
}

TEST_CASE("start_connect to nothing tells why") {
  ScratchDirectory scratch;
  CHECK(start_connect(unix_endpoint(scratch / "none")).error().code == ENOENT);
  listen_at(scratch / "stale");
  CHECK(start_connect(unix_endpoint(scratch / "stale")).error().code == ECONNREFUSED);
  write_file(scratch / "file", "");
  CHECK(start_connect(unix_endpoint(scratch / "file")).error().code == ECONNREFUSED);
  const UniqueFd full = listen_at(scratch / "full", 0);
  std::vector<UniqueFd> waiting;
  int code = 0;
  while (code == 0 && waiting.size() < 100) {
    Result<UniqueFd> started = start_connect(unix_endpoint(scratch / "full"));
    code = started.ok() ? 0 : started.error().code;
    if (started.ok()) waiting.push_back(std::move(started.value()));
  }
  CHECK(code == EAGAIN);  // it never blocks
}

TEST_CASE("start_connect and finish_connect give a stream and its peer") {
  ScratchDirectory scratch;
  const UniqueFd server = listen_at(scratch / "s");
  Result<UniqueFd> started = start_connect(unix_endpoint(scratch / "s"));
  REQUIRE(started.ok());
  CHECK(wait_for(started.value().get(), POLLOUT));
  CHECK(finish_connect(started.value().get()).ok());
  CHECK(peer_of(unix_endpoint(scratch / "s"), started.value().get()).pid == ::getpid());
}

TEST_CASE("StreamSocket: partial sends, would-block, end of stream and reset are outcomes") {
  using Kind = IoOutcome::Kind;
  int pair[2];
  REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
  StreamSocket stream{UniqueFd(pair[0])};
  UniqueFd other(pair[1]);
  ByteVector bytes(1 << 20, 7);
  ByteVector room(1 << 20);
  const iovec rooms[] = {{room.data(), 3}, {room.data() + 3, room.size() - 3}};

  CHECK(stream.receive(rooms).kind == Kind::kWouldBlock);
  size_t sent = 0;
  for (;;) {
    const IoOutcome outcome = stream.send(bytes);
    if (outcome.kind == Kind::kWouldBlock) break;
    REQUIRE(outcome.kind == Kind::kMoved);
    CHECK(outcome.size < bytes.size());
    sent += outcome.size;
  }
  CHECK(sent > 0);

  REQUIRE(::send(other.get(), "abcdef", 6, 0) == 6);
  const IoOutcome got = stream.receive(rooms);
  CHECK(got.kind == Kind::kMoved);
  CHECK(got.size == 6);
  CHECK(std::string(room.begin(), room.begin() + 6) == "abcdef");

  SUBCASE("end of stream") {
    REQUIRE(::shutdown(other.get(), SHUT_WR) == 0);
    CHECK(stream.receive(rooms).kind == Kind::kEndOfStream);
  }
  SUBCASE("closed with bytes unread: a reset, and no SIGPIPE") {
    other.reset();
    const IoOutcome outcome = stream.send(bytes);
    CHECK(outcome.kind == Kind::kGone);
    CHECK((outcome.error == EPIPE || outcome.error == ECONNRESET));
  }
}
