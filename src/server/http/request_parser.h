// RequestParser: Beast's parser into a Request, with limits on the whole header block (Beast's own
// is per call), the number of fields, the body and what all bodies in flight hold together.
// Included by http_server.cpp only; lives on its connection's strand.
#pragma once
#include <algorithm>
#include <atomic>
#include <boost/beast/http/basic_parser.hpp>
#include <boost/beast/http/error.hpp>
#include <cstdint>
#include <string>

#include "base/strings.h"
#include "server/http/http_server.h"

namespace moestro::server {

class RequestParser final : public boost::beast::http::basic_parser<true> {
 public:
  explicit RequestParser(const HttpOptions& options) : options_(options) {
    header_limit(static_cast<uint32_t>(std::min<int64_t>(options.max_header_bytes, 1 << 30)));
    body_limit(boost::none);
    eager(false);  // stop after the head, so that admit() comes before the body
  }
  Request request;
  bool has_transfer_encoding = false;
  int hosts = 0;
  std::atomic<int64_t>* body_budget = nullptr;  // what all requests together hold
  int64_t body_charged = 0;
  bool over_budget = false, over_limit = false;

 private:
  void on_request_impl(boost::beast::http::verb, boost::beast::string_view method,
                       boost::beast::string_view target, int version,
                       boost::beast::error_code& ec) override {
    request.method.assign(method.data(), method.size());
    request.target.assign(target.data(), target.size());
    request.http10 = version == 10;
    count_header(method.size() + target.size() + 12, ec);
  }
  void on_response_impl(int, boost::beast::string_view, int, boost::beast::error_code&) override {}
  void on_field_impl(boost::beast::http::field name, boost::beast::string_view name_string,
                     boost::beast::string_view value, boost::beast::error_code& ec) override {
    count_header(name_string.size() + value.size() + 4, ec);
    if (++num_fields_ > options_.max_header_count) ec = boost::beast::http::error::header_limit;
    if (ec || in_trailer_) return;
    if (name == boost::beast::http::field::transfer_encoding) has_transfer_encoding = true;
    if (name == boost::beast::http::field::host) ++hosts;
    request.headers.push_back(
        {lower({name_string.data(), name_string.size()}), std::string(value.data(), value.size())});
  }
  void on_header_impl(boost::beast::error_code&) override { in_trailer_ = true; }
  void on_body_init_impl(const boost::optional<uint64_t>&, boost::beast::error_code&) override {}
  size_t on_body_impl(boost::beast::string_view body, boost::beast::error_code& ec) override {
    return take_body(body, ec);
  }
  void on_chunk_header_impl(uint64_t, boost::beast::string_view extensions,
                            boost::beast::error_code& ec) override {
    count_header(extensions.size(), ec);
  }
  size_t on_chunk_body_impl(uint64_t, boost::beast::string_view body,
                            boost::beast::error_code& ec) override {
    return take_body(body, ec);
  }
  void on_finish_impl(boost::beast::error_code&) override {}

  void count_header(size_t bytes, boost::beast::error_code& ec) {
    header_bytes_ += static_cast<int64_t>(bytes);
    if (header_bytes_ > options_.max_header_bytes) ec = boost::beast::http::error::header_limit;
  }
  size_t take_body(boost::beast::string_view body, boost::beast::error_code& ec) {
    const auto bytes = static_cast<int64_t>(body.size());
    over_limit = static_cast<int64_t>(request.body.size()) + bytes > options_.max_body_bytes;
    if (!over_limit) {
      body_charged += bytes;
      over_budget = body_budget->fetch_add(bytes) + bytes > options_.max_total_body_bytes;
    }
    if (over_limit || over_budget) {
      ec = boost::beast::http::error::body_limit;
      return body.size();
    }
    request.body.append(body.data(), body.size());
    return body.size();
  }

  const HttpOptions& options_;
  int64_t header_bytes_ = 0, num_fields_ = 0;
  bool in_trailer_ = false;
};

}  // namespace moestro::server
