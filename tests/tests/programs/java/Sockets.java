import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.ConnectException;
import java.net.DatagramPacket;
import java.net.DatagramSocket;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.net.SocketTimeoutException;
import java.net.StandardSocketOptions;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.channels.SelectionKey;
import java.nio.channels.Selector;
import java.nio.channels.ServerSocketChannel;
import java.nio.channels.SocketChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Random;
import java.util.concurrent.Executors;
import java.util.stream.IntStream;

/** Prints what it saw of blocking sockets, channels, selectors, datagrams and HTTP. */
public class Sockets {
    public static void main(String[] args) throws Exception {
        blocking();
        selector();
        transfer();
        datagrams();
        http();
        System.out.println("java done");
    }

    static void blocking() throws Exception {
        try (ServerSocket server = new ServerSocket(0, 50, InetAddress.getLoopbackAddress())) {
            Thread echo = new Thread(() -> {
                try (Socket peer = server.accept()) {
                    peer.getOutputStream().write(peer.getInputStream().readAllBytes());
                } catch (IOException error) {
                    System.out.println(error);
                }
            });
            echo.start();
            try (Socket socket = new Socket()) {
                socket.setTcpNoDelay(true);
                socket.setKeepAlive(true);
                socket.setSoTimeout(50);
                socket.connect(server.getLocalSocketAddress(), 20_000);
                try {
                    socket.getInputStream().read();
                } catch (SocketTimeoutException expected) {
                    System.out.println("timed out");
                }
                socket.setSoTimeout(60_000);
                byte[] content = random(2_000_000);
                socket.getOutputStream().write(content);
                socket.shutdownOutput();
                byte[] echoed = socket.getInputStream().readAllBytes();
                System.out.println("echoed " + Arrays.equals(content, echoed) + " " + socket.getTcpNoDelay());
            }
            echo.join();
            int port = server.getLocalPort();
            // A thread that waits in accept is woken by close.
            Thread waiting = new Thread(() -> {
                try {
                    server.accept();
                } catch (IOException error) {
                    System.out.println("accept ended");
                }
            });
            waiting.start();
            while (waiting.getState() != Thread.State.RUNNABLE) {
                Thread.onSpinWait();
            }
            server.close();
            waiting.join();
            try {
                new Socket(InetAddress.getLoopbackAddress(), port).close();
            } catch (ConnectException error) {
                System.out.println("refused");
            }
        }
    }

    static void selector() throws Exception {
        Selector selector = Selector.open();
        ServerSocketChannel server = ServerSocketChannel.open();
        server.bind(new InetSocketAddress("127.0.0.1", 0), 100).configureBlocking(false);
        server.register(selector, SelectionKey.OP_ACCEPT);
        int clients = 40;
        byte[] content = random(20_000);
        for (int n = 0; n < clients; n++) {
            SocketChannel client = SocketChannel.open();
            client.configureBlocking(false);
            client.setOption(StandardSocketOptions.TCP_NODELAY, true);
            SelectionKey key = client.register(selector, SelectionKey.OP_CONNECT, ByteBuffer.wrap(content));
            if (client.connect(server.getLocalAddress())) {
                key.interestOps(SelectionKey.OP_WRITE);
            }
        }
        int finished = 0;
        long total = 0;
        ByteBuffer buffer = ByteBuffer.allocateDirect(16_384);
        while (finished < clients) {
            if (selector.select(30_000) == 0) {
                throw new IOException("nothing is ready: " + finished + " of " + clients);
            }
            for (SelectionKey key : selector.selectedKeys()) {
                if (key.isAcceptable()) {
                    for (SocketChannel peer; (peer = server.accept()) != null; ) {
                        peer.configureBlocking(false);
                        peer.register(selector, SelectionKey.OP_READ);
                    }
                } else if (key.isConnectable()) {
                    ((SocketChannel) key.channel()).finishConnect();
                    key.interestOps(SelectionKey.OP_WRITE);
                } else if (key.isWritable()) {
                    ByteBuffer rest = (ByteBuffer) key.attachment();
                    SocketChannel client = (SocketChannel) key.channel();
                    client.write(rest);
                    if (!rest.hasRemaining()) {
                        key.cancel();
                        client.close();
                    }
                } else if (key.isReadable()) {
                    buffer.clear();
                    int count = ((SocketChannel) key.channel()).read(buffer);
                    if (count < 0) {
                        key.channel().close();
                        finished++;
                    } else {
                        total += count;
                    }
                }
            }
            selector.selectedKeys().clear();
        }
        System.out.println("selected " + finished + " " + (total == (long) clients * content.length));
        server.close();
        selector.close();
    }

    static void transfer() throws Exception {
        Path file = Files.createTempFile("dmm", "java");
        byte[] content = random(5_000_000);
        Files.write(file, content);
        try (ServerSocketChannel server = ServerSocketChannel.open()) {
            server.bind(new InetSocketAddress("::1", 0));
            Thread sender = new Thread(() -> {
                try (SocketChannel peer = server.accept(); FileChannel source = FileChannel.open(file)) {
                    for (long at = 0; at < source.size(); ) {
                        at += source.transferTo(at, source.size() - at, peer);
                    }
                } catch (IOException error) {
                    System.out.println(error);
                }
            });
            sender.start();
            try (SocketChannel client = SocketChannel.open(server.getLocalAddress())) {
                byte[] received = client.socket().getInputStream().readAllBytes();
                System.out.println("transferred " + Arrays.equals(content, received));
            }
            sender.join();
        }
        Files.delete(file);
    }

    static void datagrams() throws Exception {
        try (DatagramSocket server = new DatagramSocket(0, InetAddress.getLoopbackAddress());
                DatagramSocket client = new DatagramSocket()) {
            client.connect(server.getLocalSocketAddress());
            client.setSoTimeout(20_000);
            for (int n = 0; n < 5; n++) {
                byte[] out = ("datagram " + n).getBytes();
                client.send(new DatagramPacket(out, out.length));
                DatagramPacket in = new DatagramPacket(new byte[100], 100);
                server.receive(in);
                server.send(in);
                DatagramPacket back = new DatagramPacket(new byte[100], 100);
                client.receive(back);
                System.out.println(new String(back.getData(), 0, back.getLength()));
            }
        }
    }

    static void http() throws Exception {
        HttpServer server = HttpServer.create(new InetSocketAddress(InetAddress.getLoopbackAddress(), 0), 50);
        server.createContext("/", exchange -> {
            byte[] body = exchange.getRequestBody().readAllBytes();
            exchange.sendResponseHeaders(200, body.length == 0 ? -1 : body.length);
            exchange.getResponseBody().write(body);
            exchange.close();
        });
        var pool = Executors.newFixedThreadPool(4);
        server.setExecutor(pool);
        server.start();
        HttpClient client = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();
        URI uri = URI.create("http://127.0.0.1:" + server.getAddress().getPort() + "/");
        boolean same = IntStream.range(1, 21).mapToObj(n -> {
            byte[] body = random(n * 10_000);
            HttpRequest request = HttpRequest.newBuilder(uri)
                    .POST(HttpRequest.BodyPublishers.ofByteArray(body)).build();
            return client.sendAsync(request, HttpResponse.BodyHandlers.ofByteArray())
                    .thenApply(answer -> Arrays.equals(answer.body(), body));
        }).toList().stream().allMatch(future -> future.join());
        System.out.println("http " + same);
        server.stop(0);
        pool.shutdown();
    }

    static byte[] random(int size) {
        byte[] bytes = new byte[size];
        new Random(size).nextBytes(bytes);
        return bytes;
    }
}
