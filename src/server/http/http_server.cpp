// The one translation unit with Asio and Beast, and the only coroutines. A connection is two
// coroutines on one strand: pump() moves bytes from the socket to a bounded buffer and notices that
// the client left; serve() parses, waits for the answer and writes it. Other threads touch an
// Exchange only, under its mutex, and wake the strand by a posted call.

// Beast asserts inside parse_chunk_header on a last chunk that arrives byte by byte (n == 4), where
// its code is right: no input may abort.
#define BOOST_DISABLE_ASSERTS
#include "server/http/http_server.h"

#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ip/v6_only.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/http/error.hpp>
#include <mutex>
#include <thread>
#include <unordered_set>
#include <utility>
#include <vector>

#include "base/log.h"
#include "base/strings.h"
#include "server/http/exchange.h"
#include "server/http/request_parser.h"
#include "server/http/wire.h"

namespace moestro::server {
namespace {

namespace asio = boost::asio;
namespace beast_http = boost::beast::http;
using boost::beast::error_code;
using Socket = asio::generic::stream_protocol::socket;
using Strand = asio::strand<asio::io_context::executor_type>;
using asio::redirect_error;
using asio::use_awaitable;

constexpr size_t kInputLimit = 64 << 10;  // read ahead of the parser, at least one header block
constexpr double kMinBodyRate =
    32 << 10;  // bytes a second that a body must keep beyond its read timeout
constexpr auto kLingerTime = std::chrono::seconds(2);
constexpr size_t kLingerBytes = 4 << 20;

Clock::time_point in_seconds(double s) {
  return Clock::now() +
         std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(s));
}

// An event for one waiter on the strand, with a deadline.
class Signal {
 public:
  explicit Signal(const Strand& strand) : timer_(strand) {}
  void notify() {
    set_ = true;
    timer_.cancel();
  }
  asio::awaitable<bool> wait_until(Clock::time_point deadline) {  // false: the deadline passed
    if (!set_) {
      error_code ec;
      timer_.expires_at(deadline);
      co_await timer_.async_wait(redirect_error(use_awaitable, ec));
    }
    const bool was = set_;
    set_ = false;
    co_return was;
  }

 private:
  asio::steady_timer timer_;
  bool set_ = false;
};

class Connection;

struct Shared {  // what connections need of the server
  HttpOptions options;
  Handler& handler;
  std::atomic<int64_t> active{0}, body_bytes{0}, num_connections{0};
  Gauge& connections;
  Counter& disconnects;
  std::mutex mutex;
  std::unordered_set<Connection*> live;
};

class Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(std::shared_ptr<Shared> shared, Socket socket, Strand strand, std::string peer)
      : shared_(std::move(shared)),
        counted_(*shared_),
        strand_(strand),
        socket_(std::move(socket)),
        input_ready_(strand_),
        output_ready_(strand_),
        pause_(strand_),
        write_timer_(strand_),
        peer_(std::move(peer)) {
    std::lock_guard lock(shared_->mutex);
    shared_->live.insert(this);
  }
  ~Connection() {
    std::lock_guard lock(shared_->mutex);
    shared_->live.erase(this);
  }

  void start() {
    auto self = shared_from_this();
    asio::co_spawn(strand_, pump(), [self](std::exception_ptr e) { self->ended("pump", e); });
    asio::co_spawn(strand_, serve(), [self](std::exception_ptr e) { self->ended("serve", e); });
  }
  void stop() {  // any thread
    asio::post(strand_, [self = shared_from_this()] { self->close(); });
  }
  void wake_output() {
    output_ready_.notify();
    if (exchange_ && exchange_->aborted())
      close();  // also when a write waits for a client that does not read
  }

 private:
  enum class Next { kAgain, kClose, kLinger };

  void ended(const char* which, std::exception_ptr e) {
    if (e) {
      try {
        std::rethrow_exception(e);
      } catch (const std::exception& error) {
        log_error("connection of {}: {} failed: {}", peer_, which, error.what());
      }
    }
    close();
  }
  void close() {  // on the strand
    if (closed_) return;
    closed_ = true;
    error_code ec;
    socket_.close(ec);
    write_timer_.cancel();
    input_ready_.notify();
    output_ready_.notify();
    pause_.notify();
    if (exchange_) exchange_->disconnect();
    if (std::exchange(answering_, false)) --shared_->active;
  }
  void peer_left() {
    eof_ = true;
    input_ready_.notify();
    if (exchange_ && !closed_) {
      shared_->disconnects.add();
      exchange_->disconnect();
    }
  }
  bool peer_hung_up() {
    pollfd p{socket_.native_handle(), POLLRDHUP, 0};
    return ::poll(&p, 1, 0) > 0 && (p.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
  }
  std::string_view input() const { return std::string_view(in_).substr(in_begin_); }
  void consume(size_t n) {
    in_begin_ += n;
    if (in_begin_ == in_.size()) {
      in_begin_ = 0;
      if (in_.capacity() > kInputLimit / 4) {
        std::string().swap(in_);  // idle connections hold no buffer
      } else {
        in_.clear();
      }
    } else if (in_begin_ > kInputLimit) {
      in_.erase(0, in_begin_);
      in_begin_ = 0;
    }
    if (n > 0) pause_.notify();
  }
  size_t input_limit() const {
    return std::max<size_t>(kInputLimit,
                            static_cast<size_t>(shared_->options.max_header_bytes) + 4096);
  }

  asio::awaitable<void> pump() {
    while (!closed_) {
      if (!discard_ && input().size() >= input_limit()) {
        if (exchange_) {
          // Bytes pile up behind a request that is being answered. Not reading them would fill the
          // receive window, behind which the client's end could not arrive: they are dropped, and
          // the connection ends after this answer (write_answer), so that the client sends them
          // again.
          discard_ = true;
          consume(input().size());
          continue;
        }
        co_await pause_.wait_until(in_seconds(0.25));  // the parser is about to take them
        if (!closed_ && peer_hung_up()) break;
        continue;
      }
      error_code ec;
      co_await socket_.async_wait(Socket::wait_read, redirect_error(use_awaitable, ec));
      if (ec || closed_) break;
      if (!read_available()) break;
    }
    peer_left();
  }
  // Not a coroutine: a thread_local must not live across a suspension. false: end of the stream.
  bool read_available() {
    static thread_local std::array<char, 64 << 10>
        chunk;  // one a thread, so that idle connections cost no buffer
    error_code ec;
    const size_t n = socket_.read_some(asio::buffer(chunk), ec);
    if (ec == asio::error::would_block || ec == asio::error::interrupted) return true;
    if (ec || n == 0) return false;
    if (discard_) return (lingered_ += n) <= kLingerBytes;
    in_.append(chunk.data(), n);
    input_ready_.notify();
    return true;
  }

  asio::awaitable<void> serve() {
    bool first = true;
    for (;;) {
      if (input().empty()) {
        const HttpOptions& o = shared_->options;
        const auto deadline = in_seconds(first ? o.read_timeout_s : o.keep_alive_timeout_s);
        while (input().empty() && !eof_ && !closed_) {
          if (!co_await input_ready_.wait_until(deadline)) break;
        }
        if (input().empty() || closed_) break;
      }
      first = false;
      const Next next = co_await one_request();
      if (next == Next::kAgain && !closed_) continue;
      if (next == Next::kLinger && !closed_) co_await linger();
      break;
    }
    close();
  }

  // The client still sends while the answer is complete: closing at once would destroy the answer
  // on its way.
  asio::awaitable<void> linger() {
    discard_ = true;
    consume(input().size());
    error_code ec;
    socket_.shutdown(Socket::shutdown_send, ec);
    const auto deadline = Clock::now() + kLingerTime;
    while (!eof_ && !closed_) {
      if (!co_await input_ready_.wait_until(deadline)) break;
    }
  }

  asio::awaitable<Next> one_request() {
    auto parser = std::make_unique<RequestParser>(shared_->options);
    parser->body_budget = &shared_->body_bytes;
    struct BodyBudget {  // gives back what the body held, when its answer is done
      std::atomic<int64_t>& total;
      RequestParser& parser;
      ~BodyBudget() { total -= parser.body_charged; }
    } budget{shared_->body_bytes, *parser};
    Request& request = parser->request;
    request.peer = peer_;
    request.received = Clock::now();

    // Head.
    const auto head_deadline = in_seconds(shared_->options.read_timeout_s);
    std::optional<wire::Refusal> refusal = co_await parse_until(*parser, head_deadline, true);
    if (closed_ || (!refusal && !parser->is_header_done())) co_return Next::kClose;
    if (!refusal) refusal = check_head(*parser);
    if (refusal)
      co_return co_await answer_now(
          request, false, shared_->handler.refuse(request, refusal->status, refusal->message));
    bool keep_alive = parser->keep_alive();
    std::optional<Response> early = shared_->handler.admit(request);
    if (!early && parser->content_length() &&
        static_cast<int64_t>(*parser->content_length()) > shared_->options.max_body_bytes) {
      early = shared_->handler.refuse(
          request, 413,
          wire::body_too_large(*parser->content_length(), shared_->options.max_body_bytes));
    }
    if (early) {
      const bool body_follows = !parser->is_done();
      co_return co_await answer_now(request, keep_alive && !body_follows, std::move(*early));
    }

    // Body.
    if (!parser->is_done()) {
      if (lower(request.header("expect")) == "100-continue" && !request.http10 && input().empty()) {
        static const std::string kContinue = "HTTP/1.1 100 Continue\r\n\r\n";
        if (!co_await write_all(kContinue)) co_return Next::kClose;
      }
      parser->eager(true);
      refusal = co_await parse_until(*parser, in_seconds(shared_->options.read_timeout_s), false);
      if (closed_ || (!refusal && !parser->is_done())) co_return Next::kClose;
      if (refusal)
        co_return co_await answer_now(
            request, false, shared_->handler.refuse(request, refusal->status, refusal->message));
    }
    std::string body = std::move(request.body);
    request.body.clear();
    request.admitted = true;
    Request head = request;
    request.body = std::move(body);
    open_exchange(std::move(head), keep_alive);
    shared_->handler.handle(std::move(request), exchange_);
    co_return co_await write_answer();
  }

  std::optional<wire::Refusal> check_head(RequestParser& parser) {
    Request& r = parser.request;
    if (parser.has_transfer_encoding && (!parser.chunked() || r.http10)) {
      return wire::Refusal{501, "the only Transfer-Encoding known here is chunked, in HTTP/1.1"};
    }
    if (parser.hosts > 1 || (parser.hosts == 0 && !r.http10))
      return wire::Refusal{400, "an HTTP/1.1 request has exactly one Host header"};
    const std::string_view expect = r.header("expect");
    if (!expect.empty() && lower(expect) != "100-continue")
      return wire::Refusal{417, "the only Expect known here is 100-continue"};
    if (!wire::decode_target(r.target, r.method, r.path)) {
      return wire::Refusal{
          400, "the request target must be an absolute path without NUL or broken percent escapes"};
    }
    return std::nullopt;
  }

  // Feeds the parser until the head (or the message) is complete. nullopt and not complete: the
  // client left.
  asio::awaitable<std::optional<wire::Refusal>> parse_until(RequestParser& parser,
                                                            Clock::time_point deadline,
                                                            bool head_only) {
    const HttpOptions& o = shared_->options;
    double body_bytes = 0;
    for (;;) {
      while (!input().empty() && !(head_only ? parser.is_header_done() : parser.is_done())) {
        const std::string_view data = input();
        error_code ec;
        const size_t used = parser.put(asio::const_buffer(data.data(), data.size()), ec);
        consume(used);
        body_bytes += static_cast<double>(used);
        if (ec == beast_http::error::need_more) {
          if (input().size() >= input_limit())
            co_return wire::Refusal{head_only ? 431 : 400, "a header or chunk line is too long"};
          break;
        }
        if (ec) co_return refusal_of(parser, ec);
        if (used == 0 && !head_only) break;
      }
      if (head_only ? parser.is_header_done() : parser.is_done()) co_return std::nullopt;
      if (eof_ || closed_) co_return std::nullopt;
      auto limit = deadline;
      if (!head_only) {
        limit += std::chrono::duration_cast<Clock::duration>(
            std::chrono::duration<double>(body_bytes / kMinBodyRate));
      }
      if (!co_await input_ready_.wait_until(limit)) {
        if (closed_) co_return std::nullopt;
        co_return wire::Refusal{
            408,
            format("the request was not complete within {} s (read timeout)", o.read_timeout_s)};
      }
    }
  }
  wire::Refusal refusal_of(const RequestParser& parser, const error_code& ec) {
    const HttpOptions& o = shared_->options;
    if (ec == beast_http::error::header_limit) {
      return {431, format("the header is larger than {} bytes or has more than {} fields",
                          o.max_header_bytes, o.max_header_count)};
    }
    if (parser.over_budget) return {503, "too many large requests are in flight; try again later"};
    if (parser.over_limit || ec == beast_http::error::body_limit)
      return {413, format("the body is larger than {} bytes", o.max_body_bytes)};
    if (ec == beast_http::error::bad_version)
      return {505, "only HTTP/1.0 and HTTP/1.1 are spoken here"};
    return {400, format("not a valid HTTP request: {}", ec.message())};
  }

  void open_exchange(Request head, bool keep_alive) {
    ++shared_->active;
    answering_ = true;
    auto wake = [weak = weak_from_this()] {  // weak: an Exchange may outlive the I/O context, a
                                             // Connection must not
      if (auto c = weak.lock()) asio::post(c->strand_, [c] { c->wake_output(); });
    };
    exchange_ = std::make_shared<Exchange>(shared_->handler, std::move(head), keep_alive,
                                           shared_->options.max_output_bytes, std::move(wake));
    if (eof_) exchange_->disconnect();
  }
  asio::awaitable<Next> answer_now(Request& request, bool keep_alive, Response response) {
    request.body.clear();
    open_exchange(request, keep_alive);
    exchange_->send(std::move(response));
    co_return co_await write_answer();
  }
  asio::awaitable<Next> write_answer() {
    const std::shared_ptr<Exchange> exchange = exchange_;
    bool complete = false;
    while (!closed_) {
      Exchange::Output output = exchange->take();
      if (output.aborted) break;
      if (!output.bytes.empty() && !co_await write_all(output.bytes)) break;
      if (output.finished) {
        complete = true;
        break;
      }
      if (output.bytes.empty()) co_await output_ready_.wait_until(Clock::time_point::max());
    }
    exchange_ = nullptr;
    if (!complete) exchange->disconnect();
    exchange->drop_callback();
    shared_->handler.finished(exchange->head(), exchange->status(), complete);
    if (std::exchange(answering_, false)) --shared_->active;
    if (!complete) co_return Next::kClose;
    co_return exchange->keep_alive() && !discard_ ? Next::kAgain : Next::kLinger;
  }

  // false: the client is gone, or took nothing for write_timeout_s.
  asio::awaitable<bool> write_all(const std::string& bytes) {
    size_t done = 0;
    while (done < bytes.size() && !closed_) {
      error_code ec;
      done += socket_.write_some(asio::buffer(bytes.data() + done, bytes.size() - done), ec);
      if (!ec) continue;
      if (ec != asio::error::would_block && ec != asio::error::interrupted) co_return false;
      write_timer_.expires_at(in_seconds(shared_->options.write_timeout_s));
      write_timer_.async_wait([self = shared_from_this()](const error_code& timer_ec) {
        if (!timer_ec && self->write_timer_.expiry() <= Clock::now()) {
          log_warning("{} took nothing of its answer for {} s: cut", self->peer_,
                      self->shared_->options.write_timeout_s);
          self->close();
        }
      });
      co_await socket_.async_wait(Socket::wait_write, redirect_error(use_awaitable, ec));
      write_timer_.expires_at(Clock::time_point::max());
      if (ec) co_return false;
    }
    co_return !closed_;
  }

  struct Counted {  // destroyed after everything that needs the I/O context: HttpServer::stop()
                    // waits for the count
    explicit Counted(Shared& s) : shared(s) {
      s.connections.set(static_cast<double>(++s.num_connections));
    }
    ~Counted() { shared.connections.set(static_cast<double>(--shared.num_connections)); }
    Shared& shared;
  };
  const std::shared_ptr<Shared> shared_;
  const Counted counted_;
  const Strand strand_;
  Socket socket_;
  Signal input_ready_, output_ready_, pause_;
  asio::steady_timer write_timer_;
  const std::string peer_;
  std::string in_;  // from in_begin_: read, not parsed
  size_t in_begin_ = 0, lingered_ = 0;
  bool eof_ = false, closed_ = false, discard_ = false, answering_ = false;
  std::shared_ptr<Exchange> exchange_;  // while a request is answered
};

std::string describe_peer(const asio::ip::tcp::endpoint& e) {
  return format("{}:{}", e.address().to_string(), e.port());
}
std::string describe_peer(const asio::local::stream_protocol::endpoint&) { return "unix socket"; }

// One file descriptor a connection: the soft limit of many systems (1024) is below the default
// connection limit.
void raise_descriptor_limit(int64_t connections) {
  rlimit limit{};
  const auto wanted = static_cast<rlim_t>(connections) + 256;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= wanted) return;
  limit.rlim_cur = std::min(wanted, limit.rlim_max);
  if (setrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur < wanted) {
    log_warning("only {} open files are allowed here, fewer than {} connections need (ulimit -n)",
                limit.rlim_cur, connections);
  }
}

}  // namespace

class HttpServer::Impl {
 public:
  Impl(HttpOptions options, Handler& handler, MetricsRegistry& metrics)
      : shared_(new Shared{
            .options = std::move(options),
            .handler = handler,
            .connections = metrics.gauge("moestro:http_connections", "Open client connections."),
            .disconnects = metrics.counter("moestro:http_disconnects",
                                           "Clients that left before their answer was complete."),
            .mutex = {},
            .live = {}}) {}

  Status listen() {
    const HttpOptions& o = shared_->options;
    raise_descriptor_limit(o.max_connections);
    try {
      if (o.uds) return listen_unix(*o.uds);
      return listen_tcp();
    } catch (const std::exception& e) {
      return {Code::kUnavailable, format("cannot listen: {}", e.what())};
    }
  }
  void run() {
    for (int i = 0; i < std::max(shared_->options.io_threads, 1); ++i) {
      threads_.emplace_back([this] {
        for (;;) {
          try {
            context_.run();
            return;
          } catch (const std::exception& e) {
            log_error("an I/O handler threw: {}", e.what());
          }
        }
      });
    }
  }
  void stop() {
    if (stopped_.exchange(true)) return;
    asio::post(context_, [this] {
      error_code ec;
      if (tcp_) tcp_->close(ec);
      if (unix_) unix_->close(ec);
    });
    const Deadline patience = Deadline::after(std::chrono::seconds(10));
    while (shared_->num_connections > 0) {
      std::vector<std::shared_ptr<Connection>> open;
      {
        std::lock_guard lock(shared_->mutex);
        for (Connection* c : shared_->live) {
          if (auto alive = c->weak_from_this().lock()) open.push_back(std::move(alive));
        }
      }
      for (const auto& c : open) c->stop();
      open.clear();
      if (patience.expired()) {
        log_error("{} connections did not close", shared_->num_connections.load());
        break;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    work_.reset();
    context_.stop();
    for (std::thread& t : threads_) t.join();
    threads_.clear();
    if (shared_->options.uds) ::unlink(shared_->options.uds->c_str());
  }

  uint16_t port_ = 0;
  std::string address_;
  std::shared_ptr<Shared> shared_;

 private:
  Status listen_tcp() {
    const HttpOptions& o = shared_->options;
    error_code ec;
    asio::ip::address ip = asio::ip::make_address(o.host.empty() ? "0.0.0.0" : o.host, ec);
    if (ec) {
      asio::ip::tcp::resolver resolver(context_);
      const auto found = resolver.resolve(o.host, "", ec);
      if (ec || found.empty())
        return invalid_argument(format("--host {}: no such address ({})", o.host, ec.message()));
      ip = found.begin()->endpoint().address();
      for (const auto& entry : found) {
        if (entry.endpoint().address().is_v4()) ip = entry.endpoint().address();
      }
    }
    const asio::ip::tcp::endpoint endpoint(ip, o.port);
    tcp_.emplace(asio::make_strand(context_));
    tcp_->open(endpoint.protocol(), ec);
    if (!ec) tcp_->set_option(asio::socket_base::reuse_address(true), ec);
    if (!ec) tcp_->bind(endpoint, ec);
    if (!ec) tcp_->listen(4096, ec);
    if (ec) {
      return {Code::kUnavailable,
              format("cannot listen on {} port {}: {}; --port 0 takes any free port", o.host,
                     o.port, ec.message())};
    }
    port_ = tcp_->local_endpoint().port();
    address_ = format(ip.is_v6() ? "http://[{}]:{}" : "http://{}:{}", ip.to_string(), port_);
    asio::co_spawn(tcp_->get_executor(), accept_loop(*tcp_), asio::detached);
    return {};
  }
  Status listen_unix(const std::string& path) {
    error_code ec;
    unix_.emplace(asio::make_strand(context_));
    const asio::local::stream_protocol::endpoint endpoint(path);
    unix_->open(endpoint.protocol(), ec);
    if (!ec) {
      unix_->bind(endpoint, ec);
      if (ec == asio::error::address_in_use &&
          !unix_socket_answers(endpoint)) {  // left over from a process that died
        ec = {};
        ::unlink(path.c_str());
        unix_->bind(endpoint, ec);
      }
    }
    if (!ec) unix_->listen(4096, ec);
    if (ec)
      return {Code::kUnavailable, format("cannot listen on --uds {}: {}", path, ec.message())};
    address_ = "unix:" + path;
    asio::co_spawn(unix_->get_executor(), accept_loop(*unix_), asio::detached);
    return {};
  }
  bool unix_socket_answers(const asio::local::stream_protocol::endpoint& endpoint) {
    asio::local::stream_protocol::socket probe(context_);
    error_code ec;
    probe.connect(endpoint, ec);
    return ec != asio::error::connection_refused;
  }

  template <class Acceptor>
  asio::awaitable<void> accept_loop(Acceptor& acceptor) {
    asio::steady_timer timer(acceptor.get_executor());
    for (;;) {
      const Strand strand = asio::make_strand(context_);
      Socket socket(strand);
      typename Acceptor::protocol_type::endpoint peer;
      typename Acceptor::protocol_type::socket accepted(strand);
      error_code ec;
      co_await acceptor.async_accept(accepted, peer, redirect_error(use_awaitable, ec));
      if (stopped_ || ec == asio::error::operation_aborted || ec == asio::error::bad_descriptor)
        co_return;
      if (ec) {  // out of descriptors or memory: connections that end make room again
        log_warning("cannot accept a connection: {}", ec.message());
        timer.expires_after(std::chrono::milliseconds(100));
        co_await timer.async_wait(redirect_error(use_awaitable, ec));
        continue;
      }
      accepted.non_blocking(true, ec);
      if constexpr (std::is_same_v<Acceptor, TcpAcceptor>)
        accepted.set_option(asio::ip::tcp::no_delay(true), ec);
      if (shared_->num_connections >= shared_->options.max_connections) {
        const std::string busy = wire::whole_response(
            shared_->handler.refuse(
                {}, 503,
                format("more than {} connections are open", shared_->options.max_connections)),
            {false, false, false});
        accepted.write_some(asio::buffer(busy), ec);
        continue;
      }
      socket = std::move(accepted);
      std::make_shared<Connection>(shared_, std::move(socket), strand, describe_peer(peer))
          ->start();
    }
  }

  using TcpAcceptor = asio::ip::tcp::acceptor;
  asio::io_context context_;
  std::optional<asio::executor_work_guard<asio::io_context::executor_type>> work_{
      asio::make_work_guard(context_)};
  std::optional<TcpAcceptor> tcp_;
  std::optional<asio::local::stream_protocol::acceptor> unix_;
  std::vector<std::thread> threads_;
  std::atomic<bool> stopped_{false};
};

HttpServer::HttpServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
HttpServer::~HttpServer() { stop(); }

Result<std::unique_ptr<HttpServer>> HttpServer::listen(HttpOptions options, Handler& handler,
                                                       MetricsRegistry& metrics) {
  auto impl = std::make_unique<Impl>(std::move(options), handler, metrics);
  MOESTRO_TRY(impl->listen());
  impl->run();
  return std::unique_ptr<HttpServer>(new HttpServer(std::move(impl)));
}
uint16_t HttpServer::port() const { return impl_->port_; }
const std::string& HttpServer::address() const { return impl_->address_; }
int64_t HttpServer::active_requests() const { return impl_->shared_->active; }
void HttpServer::stop() { impl_->stop(); }

}  // namespace moestro::server
