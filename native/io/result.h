// A value, or the step that failed and its errno. No exceptions cross this code base.
#pragma once

#include <cerrno>
#include <optional>
#include <string>
#include <utility>

namespace arca {

struct Error {
  const char* operation = "";  // a static string: "ioctl(TUNSETIFF)"
  int code = 0;                // errno
};

// "EPERM", or "E123" for a number that the C library does not know.
std::string error_name(int code);
// "ioctl(TUNSETIFF): Operation not permitted"
std::string describe(const Error& error);

// The error of the system call that just failed. Call it first of all: errno is volatile.
inline Error last_error(const char* operation) { return Error{operation, errno}; }

template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : value_(std::move(value)) {}  // NOLINT(google-explicit-constructor)
  Result(const Error& error) : error_(error) {}  // NOLINT(google-explicit-constructor)

  bool ok() const { return value_.has_value(); }
  T& value() { return *value_; }
  const T& value() const { return *value_; }
  const Error& error() const { return error_; }

 private:
  std::optional<T> value_;
  Error error_;
};

struct Done {};
using Status = Result<Done>;

}  // namespace arca
