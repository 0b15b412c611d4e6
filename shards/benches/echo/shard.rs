//! The server on a shard: a task a connection.

use std::net::TcpStream as StdStream;
use std::time::Duration;

use dmm_shards::net::TcpStream;
use dmm_shards::{Builder, DriverChoice, spawn};

use super::cpu_time;

/// Sends on what it receives, as it is.
pub(super) fn serve_pieces(streams: Vec<StdStream>) -> Duration {
    serve(
        Builder::default().driver(DriverChoice::IoUring),
        streams,
        |mut stream| async move {
            while let Ok(Some(piece)) = stream.read_piece().await {
                if stream.send(piece).await.is_err() {
                    return;
                }
            }
        },
    )
}

/// Copies, by the calls that every stream has.
pub(super) fn serve_copies(streams: Vec<StdStream>) -> Duration {
    serve(
        Builder::default().driver(DriverChoice::IoUring),
        streams,
        copy,
    )
}

pub(super) fn serve_by_epoll(streams: Vec<StdStream>) -> Duration {
    serve(
        Builder::default().driver(DriverChoice::Epoll),
        streams,
        copy,
    )
}

async fn copy(stream: TcpStream) {
    let (mut read, mut write) = stream.into_split();
    loop {
        let count = match read.fill_buf().await {
            Ok([]) | Err(_) => return,
            Ok(bytes) if write.write_all(bytes).await.is_ok() => bytes.len(),
            Ok(_) => return,
        };
        read.consume(count);
    }
}

fn serve<F: Future<Output = ()> + 'static>(
    builder: Builder,
    streams: Vec<StdStream>,
    handle: impl Fn(TcpStream) -> F + 'static,
) -> Duration {
    let serve = async move {
        let began = cpu_time();
        let tasks: Vec<_> = streams
            .into_iter()
            .map(|stream| spawn(handle(TcpStream::from_std(stream).expect("a socket"))))
            .collect();
        for task in tasks {
            task.await;
        }
        cpu_time() - began
    };
    builder.block_on(serve).expect("a shard runs here")
}
