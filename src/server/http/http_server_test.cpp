// The protocol, with a handler that echoes: split writes, limits, time limits, pipelining, garbage,
// slow readers.
#include "server/http/http_server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <thread>

#include "server/client_for_test.h"

namespace moestro::server {
namespace {

using testing::HasSubstr;

// POST /echo gives the body back, /stream streams it in pieces, /flood streams until nobody takes
// it, /never answers when told to.
class EchoHandler final : public Handler {
 public:
  std::optional<Response> admit(Request& head) override {
    ++admitted;
    if (head.path == "/denied") return refuse(head, 401, "no");
    return std::nullopt;
  }
  void handle(Request request, std::shared_ptr<Responder> responder) override {
    if (request.path == "/stream") {
      Response head;
      head.content_type = "text/plain";
      responder->start_stream(head);
      for (char c : request.body) responder->write(std::string_view(&c, 1));
      return responder->finish();
    }
    if (request.path == "/flood") {
      std::thread([this, responder] {
        responder->start_stream({});
        const std::string piece(8192, 'x');
        while (responder->write(piece)) std::this_thread::yield();
        ++cut;
      }).detach();
      return;
    }
    if (request.path == "/never") {
      responder->on_disconnect([this, responder] {
        ++disconnects;
        responder->abort();
      });
      return;
    }
    Response r;
    r.content_type = "text/plain";
    r.body = request.body.empty() ? request.path : request.body;
    responder->send(std::move(r));
  }
  Response refuse(const Request&, int status, std::string_view message) override {
    Response r;
    r.status = status;
    r.body = message;
    r.close = true;
    return r;
  }
  void decorate(const Request&, Response& response) override {
    response.headers.push_back({"X-Test", "a\r\nInjected: 1"});
  }
  void finished(const Request&, int, bool) override { ++done; }

  std::atomic<int> admitted{0}, disconnects{0}, cut{0}, done{0};
};

class HttpTest : public testing::Test {
 protected:
  void start(HttpOptions options = {}) {
    auto server = HttpServer::listen(options, handler_, metrics_);
    ASSERT_TRUE(server.ok()) << server.status().message();
    server_ = std::move(*server);
  }
  TestResponse exchange(std::string_view bytes) {
    TestClient c(server_->port());
    c.send(bytes);
    return c.read_response();
  }
  static bool eventually(const std::function<bool()>& what, double seconds = 5) {
    for (int i = 0; i < static_cast<int>(seconds * 200); ++i) {
      if (what()) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    return what();
  }
  EchoHandler handler_;
  MetricsRegistry metrics_;
  std::unique_ptr<HttpServer> server_;
};

TEST_F(HttpTest, AnswersAndKeepsAlive) {
  start();
  TestClient c(server_->port());
  for (int i = 0; i < 3; ++i) {
    c.send(post_request("/echo", "hello"));
    const TestResponse r = c.read_response();
    EXPECT_EQ(r.status, 200);
    EXPECT_EQ(r.body, "hello");
    EXPECT_EQ(r.header("injected"), "") << "a header value must not end its line";
    EXPECT_EQ(r.header("x-test"), "aInjected: 1");
  }
  EXPECT_TRUE(eventually([&] { return server_->active_requests() == 0; }));
}

TEST_F(HttpTest, EverySplitOfARequestGivesTheSameAnswer) {
  start();
  const std::string whole[] = {
      post_request("/echo", "hello world"),
      "POST /echo HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6;x=y\r\n "
      "world\r\n0\r\nTrailer: 1\r\n\r\n",
  };
  for (const std::string& request : whole) {
    TestClient c(server_->port());
    for (size_t cut = 0; cut <= request.size(); ++cut) {
      ASSERT_TRUE(c.send(request.substr(0, cut)));
      std::this_thread::sleep_for(std::chrono::microseconds(300));
      ASSERT_TRUE(c.send(request.substr(cut)));
      const TestResponse r = c.read_response();
      ASSERT_EQ(r.status, 200) << "cut at " << cut << ": " << r.body;
      ASSERT_EQ(r.body, "hello world") << "cut at " << cut;
    }
  }
}

TEST_F(HttpTest, ByteByByte) {
  start();
  const std::string requests[] = {
      post_request("/echo", "abc"),
      "POST /echo HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
      "POST /abc HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"};
  for (const std::string& request : requests) {
    TestClient c(server_->port());
    for (char byte : request) {
      ASSERT_TRUE(c.send(std::string_view(&byte, 1)));
      std::this_thread::sleep_for(std::chrono::microseconds(200));
    }
    const TestResponse r = c.read_response();
    EXPECT_EQ(r.status, 200) << r.body;
    EXPECT_THAT(r.body, HasSubstr("abc"));
  }
}

TEST_F(HttpTest, Pipelining) {
  start();
  std::string all;
  for (int i = 0; i < 50; ++i) all += post_request("/echo", format("body {}", i));
  TestClient c(server_->port());
  c.send(all);
  for (int i = 0; i < 50; ++i) {
    const TestResponse r = c.read_response();
    ASSERT_EQ(r.status, 200);
    ASSERT_EQ(r.body, format("body {}", i));
  }
}

TEST_F(HttpTest, StreamsChunkedAndForHttp10UntilClose) {
  start();
  TestResponse r = exchange(post_request("/stream", "some text"));
  EXPECT_EQ(r.header("transfer-encoding"), "chunked");
  EXPECT_EQ(r.body, "some text");
  EXPECT_TRUE(r.complete);
  r = exchange("POST /stream HTTP/1.0\r\nContent-Length: 4\r\n\r\nabcd");
  EXPECT_EQ(r.header("transfer-encoding"), "");
  EXPECT_EQ(r.header("connection"), "close");
  EXPECT_EQ(r.body, "abcd");
}

TEST_F(HttpTest, HeadHasNoBody) {
  start();
  TestClient c(server_->port());
  c.send("HEAD /four HTTP/1.1\r\nHost: t\r\n\r\n");
  TestResponse r = c.read_response(true);
  EXPECT_EQ(r.header("content-length"), "5");
  c.send(get_request("/next"));
  EXPECT_EQ(c.read_response().body, "/next") << "no stray bytes between the responses";
}

TEST_F(HttpTest, PathsAreDecoded) {
  start();
  EXPECT_EQ(exchange(get_request("/a%20b?x=%00")).body, "/a b");
  EXPECT_EQ(exchange("GET http://host/abs HTTP/1.1\r\nHost: t\r\n\r\n").body, "/abs");
  EXPECT_EQ(exchange(get_request("/a%2")).status, 400);
  EXPECT_EQ(exchange(get_request("/a%00b")).status, 400);
  EXPECT_EQ(exchange(get_request("nothing")).status, 400);
}

TEST_F(HttpTest, RefusesWhatIsNoRequest) {
  start();
  struct Case {
    const char* bytes;
    int status;
  };
  const Case cases[] = {
      {"GARBAGE\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\n\r\n", 400},  // no Host
      {"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400},
      {"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505},
      {"GET / HTTP/1.1\r\nHost: a\r\nBad Header\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n", 400},  // space before the colon
      {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400},
      {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400},
      {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\na",
       400},  // smuggling
      {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\na",
       400},
      {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501},
      {"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 501},
      {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400},
      {"POST / HTTP/1.1\r\nHost: a\r\nExpect: magic\r\nContent-Length: 1\r\n\r\na", 417},
      {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a TLS hello\r\n\r\n", 400},
  };
  for (const Case& c : cases) {
    TestClient client(server_->port());
    client.send(c.bytes);
    const TestResponse r = client.read_response();
    EXPECT_EQ(r.status, c.status) << c.bytes << "\n" << r.body;
    EXPECT_EQ(r.header("connection"), "close");
    client.shutdown_send();
    EXPECT_TRUE(client.closed_by_server()) << c.bytes;
  }
  EXPECT_EQ(exchange(get_request("/alive")).body, "/alive");
}

TEST_F(HttpTest, HeaderLimits) {
  start({.max_header_bytes = 4096, .max_header_count = 20});
  EXPECT_EQ(exchange(get_request("/", "X-Long: " + std::string(8000, 'a') + "\r\n")).status, 431);
  EXPECT_EQ(exchange(get_request("/" + std::string(8000, 'a'))).status, 431);
  std::string many, parts;
  for (int i = 0; i < 30; ++i) many += format("X-{}: 1\r\n", i);
  EXPECT_EQ(exchange(get_request("/", many)).status, 431);
  // In pieces below the limit each: the sum counts.
  TestClient c(server_->port());
  c.send("GET / HTTP/1.1\r\nHost: t\r\n");
  for (int i = 0; i < 12; ++i) {
    c.send(format("X-{}: {}\r\n", i, std::string(500, 'b')));
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  EXPECT_EQ(c.read_response().status, 431);
}

TEST_F(HttpTest, BodyLimitIsKnownBeforeTheBody) {
  start({.max_body_bytes = 1000});
  TestClient c(server_->port());
  c.send("POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 104857600\r\n\r\n");
  TestResponse r = c.read_response();
  EXPECT_EQ(r.status, 413);
  EXPECT_THAT(r.body, HasSubstr("104857600"));
  EXPECT_THAT(r.body, HasSubstr("1000"));
  // Chunked: no length is announced, the sum decides.
  std::string chunked = "POST /echo HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n";
  for (int i = 0; i < 20; ++i) chunked += "64\r\n" + std::string(100, 'x') + "\r\n";
  EXPECT_EQ(exchange(chunked + "0\r\n\r\n").status, 413);
  EXPECT_EQ(exchange(post_request("/echo", std::string(1000, 'y'))).status, 200);
  // A client that sends it all the same still reads the answer.
  TestClient eager(server_->port());
  std::thread sender([&] {
    eager.send("POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 1000000\r\n\r\n" +
               std::string(1000000, 'z'));
  });
  EXPECT_EQ(eager.read_response().status, 413);
  sender.join();
}

TEST_F(HttpTest, BodiesInFlightAreLimitedTogether) {
  start({.max_body_bytes = 1000, .max_total_body_bytes = 1500});
  TestClient first(server_->port()), second(server_->port());
  first.send("POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 1000\r\n\r\n" +
             std::string(999, 'x'));
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  second.send(post_request("/echo", std::string(800, 'y')));
  EXPECT_EQ(second.read_response().status, 503);
  first.send("x");
  EXPECT_EQ(first.read_response().status, 200);
  EXPECT_EQ(exchange(post_request("/echo", std::string(800, 'y'))).status, 200)
      << "what was held is free again";
}

TEST_F(HttpTest, RefusalBeforeTheBodyDoesNotWaitForIt) {
  start();
  TestClient c(server_->port());
  c.send("POST /denied HTTP/1.1\r\nHost: t\r\nContent-Length: 1000\r\n\r\n");
  EXPECT_EQ(c.read_response().status, 401);
}

TEST_F(HttpTest, Expect100Continue) {
  start();
  TestClient c(server_->port());
  c.send("POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n");
  while (c.buffer().find("\r\n\r\n") == std::string::npos) ASSERT_TRUE(c.receive());
  EXPECT_TRUE(c.buffer().starts_with("HTTP/1.1 100"));
  c.send("abc");
  const TestResponse r = c.read_response();
  EXPECT_EQ(r.status, 200);
  EXPECT_EQ(r.body, "abc");
  TestClient denied(server_->port());
  denied.send(
      "POST /denied HTTP/1.1\r\nHost: t\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n");
  EXPECT_EQ(denied.read_response().status, 401);
}

TEST_F(HttpTest, SlowSendersAreCut) {
  start({.read_timeout_s = 0.3, .keep_alive_timeout_s = 0.3});
  TestClient silent(server_->port()), head(server_->port()), body(server_->port()),
      idle(server_->port());
  head.send("GET / HTTP/1.1\r\nHo");
  body.send("POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 10\r\n\r\nab");
  idle.send(get_request("/x"));
  EXPECT_EQ(idle.read_response().status, 200);
  EXPECT_EQ(head.read_response().status, 408);
  EXPECT_EQ(body.read_response().status, 408);
  EXPECT_TRUE(silent.closed_by_server(3));
  EXPECT_TRUE(idle.closed_by_server(3));
  // A byte now and then does not extend the time of a head.
  TestClient drip(server_->port());
  std::string request = get_request("/", "X-Long: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n");
  bool sent = true;
  for (size_t i = 0; i < request.size() && sent; ++i) {
    sent = drip.send(request.substr(i, 1));
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    if (i > 25) break;
  }
  EXPECT_EQ(drip.read_response().status, 408);
}

TEST_F(HttpTest, ClientThatDoesNotReadIsCut) {
  start({.max_output_bytes = 256 << 10});
  TestClient c(server_->port(), 4096);
  c.send(get_request("/flood"));
  EXPECT_TRUE(eventually([&] { return handler_.cut == 1; }, 10))
      << "the writer was never told to stop";
  EXPECT_TRUE(eventually([&] { return server_->active_requests() == 0; }));
}

TEST_F(HttpTest, WriteTimeout) {
  start({.max_output_bytes = 1ll << 40, .write_timeout_s = 0.3});
  TestClient c(server_->port(), 4096);
  c.send(post_request("/echo", std::string(20 << 20, 'x')));
  EXPECT_TRUE(eventually([&] { return handler_.done == 1; }, 10));
  EXPECT_EQ(server_->active_requests(), 0);
}

TEST_F(HttpTest, DisconnectIsSeenWhileWaiting) {
  start();
  {
    TestClient c(server_->port());
    c.send(get_request("/never"));
    ASSERT_TRUE(eventually([&] { return server_->active_requests() == 1; }));
  }
  EXPECT_TRUE(eventually([&] { return handler_.disconnects == 1; }));
  // Also behind a pile of pipelined bytes that nobody reads.
  {
    TestClient c(server_->port());
    c.send(get_request("/never"));
    c.send(std::string(200000, 'x'));
    ASSERT_TRUE(eventually([&] { return server_->active_requests() == 1; }));
  }
  EXPECT_TRUE(eventually([&] { return handler_.disconnects == 2; }));
  EXPECT_TRUE(eventually([&] { return server_->active_requests() == 0; }));
}

TEST_F(HttpTest, ConnectionLimit) {
  start({.max_connections = 2});
  TestClient a(server_->port()), b(server_->port());
  a.send(get_request("/a"));
  b.send(get_request("/b"));
  EXPECT_EQ(a.read_response().status, 200);
  EXPECT_EQ(b.read_response().status, 200);
  TestClient c(server_->port());
  EXPECT_EQ(c.read_response().status, 503);
  a.close();
  EXPECT_TRUE(eventually([&] {
    TestClient again(server_->port());
    again.send(get_request("/c"));
    return again.read_response().status == 200;
  }));
}

TEST_F(HttpTest, RandomBytesNeverHurt) {
  start({.read_timeout_s = 0.2});
  std::mt19937 random(7);
  const std::string seeds[] = {
      post_request("/echo", "hello"),
      get_request("/a%20b", "Connection: keep-alive\r\nExpect: 100-continue\r\n"),
      "POST /stream HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nA: "
      "b\r\n\r\n"};
  for (int round = 0; round < 300; ++round) {
    std::string bytes = seeds[random() % 3];
    const size_t edits = 1 + random() % 6;
    for (size_t e = 0; e < edits && !bytes.empty(); ++e) {
      const size_t at = random() % bytes.size();
      switch (random() % 3) {
        case 0:
          bytes[at] = static_cast<char>(random());
          break;
        case 1:
          bytes.erase(at, 1 + random() % 4);
          break;
        default:
          bytes.insert(at, 1 + random() % 3, static_cast<char>(random()));
      }
    }
    TestClient c(server_->port());
    c.send(bytes);
    c.shutdown_send();
    EXPECT_TRUE(c.closed_by_server(5)) << "round " << round;
  }
  EXPECT_EQ(exchange(get_request("/alive")).body, "/alive");
  EXPECT_TRUE(eventually([&] { return server_->active_requests() == 0; }));
}

TEST_F(HttpTest, TakenPortIsAnError) {
  start();
  HttpOptions same;
  same.port = server_->port();
  auto second = HttpServer::listen(same, handler_, metrics_);
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.status().code(), Code::kUnavailable);
  EXPECT_THAT(second.status().message(), HasSubstr("--port"));
  same.host = "256.1.2.3.4";
  auto bad = HttpServer::listen(same, handler_, metrics_);
  ASSERT_FALSE(bad.ok());
  EXPECT_EQ(bad.status().code(), Code::kInvalidArgument);
}

TEST_F(HttpTest, StopEndsConnectionsAndWaitingRequests) {
  start({.io_threads = 2});
  TestClient waiting(server_->port()), idle(server_->port());
  waiting.send(get_request("/never"));
  ASSERT_TRUE(eventually([&] { return server_->active_requests() == 1; }));
  server_->stop();
  EXPECT_EQ(handler_.disconnects, 1);
  EXPECT_TRUE(waiting.closed_by_server(2));
  EXPECT_TRUE(idle.closed_by_server(2));
}

}  // namespace
}  // namespace moestro::server
