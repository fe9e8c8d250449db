#include "io/endpoint.h"

#include <doctest/doctest.h>

#include <cerrno>

#include "io/ports.h"
#include "io/result.h"

using namespace arca;

TEST_CASE("parse_endpoint reads what format_endpoint writes") {
  struct {
    const char* text;
    const char* formatted;
  } const cases[] = {
      {"vsock:5555", "vsock:5555"},
      {"vsock:2:5555", "vsock:2:5555"},
      {"vsock:0:1", "vsock:0:1"},
      {"vsock:4294967295:5555", "vsock:5555"},  // VMADDR_CID_ANY
      {"vsock:3:4294967294", "vsock:3:4294967294"},
      {"unix:/run/arca/web.sock", "unix:/run/arca/web.sock"},
      {"unix:relative", "unix:relative"},
      {"unix:a:b", "unix:a:b"},
      {"unix:@x", "unix:@x"},  // a file of that name: abstract sockets have no permissions
  };
  for (const auto& each : cases) {
    CAPTURE(each.text);
    const ParsedEndpoint parsed = parse_endpoint(each.text);
    REQUIRE(parsed.endpoint.has_value());
    CHECK(format_endpoint(*parsed.endpoint) == each.formatted);
    CHECK(parsed.problem.empty());
  }
}

TEST_CASE("parse_endpoint says what is wrong") {
  const std::string longest(107, 'x');
  CHECK(parse_endpoint("unix:" + longest).endpoint.has_value());
  struct {
    std::string text;
    const char* says;
  } const cases[] = {
      {"", "neither"},
      {"5555", "neither"},
      {"tcp:1:2", "neither"},
      {"VSOCK:5555", "neither"},
      {"vsock:", "port"},
      {"vsock:0", "port"},
      {"vsock:4294967295", "port"},
      {"vsock:4294967296", "port"},
      {"vsock:-1", "port"},
      {"vsock:+1", "port"},
      {"vsock: 1", "port"},
      {"vsock:1 ", "port"},
      {"vsock:0x10", "port"},
      {"vsock:2:", "port"},
      {"vsock:2:0", "port"},
      {"vsock:2:3:4", "port"},
      {"vsock::5555", "CID"},
      {"vsock:x:5555", "CID"},
      {"vsock:4294967296:5555", "CID"},
      {"unix:", "path"},
      {"unix:" + longest + "x", "107"},
      {std::string("unix:a\0b", 8), "zero byte"},
  };
  for (const auto& each : cases) {
    CAPTURE(each.text);
    const ParsedEndpoint parsed = parse_endpoint(each.text);
    CHECK_FALSE(parsed.endpoint.has_value());
    CHECK(parsed.problem.find(each.says) != std::string::npos);
  }
}

TEST_CASE("judge_tap_errno: what ends a TAP, and what costs one frame") {
  using Kind = IoOutcome::Kind;
  CHECK(judge_tap_errno(EAGAIN).kind == Kind::kWouldBlock);
  for (const int code : {EINVAL, EIO, EMSGSIZE, ENETDOWN, ENOBUFS, ENOMEM, ENOSPC}) {
    CAPTURE(code);
    CHECK(judge_tap_errno(code).kind == Kind::kDropped);
    CHECK(judge_tap_errno(code).error == code);
  }
  for (const int code : {EBADFD, EBADF, EFAULT, EPERM, ENODEV}) {
    CAPTURE(code);
    CHECK(judge_tap_errno(code).kind == Kind::kGone);
    CHECK(judge_tap_errno(code).error == code);
  }
}

TEST_CASE("judge_stream_errno: everything but a full or empty stream ends the link") {
  using Kind = IoOutcome::Kind;
  CHECK(judge_stream_errno(EAGAIN).kind == Kind::kWouldBlock);
  CHECK(judge_stream_errno(EWOULDBLOCK).kind == Kind::kWouldBlock);
  for (const int code :
       {EPIPE, ECONNRESET, ENOBUFS, ENOMEM, ETIMEDOUT, ENOTCONN, EBADF, EHOSTUNREACH}) {
    CAPTURE(code);
    CHECK(judge_stream_errno(code).kind == Kind::kGone);
    CHECK(judge_stream_errno(code).error == code);
  }
}

TEST_CASE("errors have names and say their step") {
  CHECK(error_name(EPERM) == "EPERM");
  CHECK(error_name(EAGAIN) == "EAGAIN");
  CHECK(error_name(99999) == "E99999");
  CHECK(describe({"ioctl(TUNSETIFF)", EPERM}) == "ioctl(TUNSETIFF): Operation not permitted");
  CHECK(describe({"x", 99999}) == "x: E99999");
}
