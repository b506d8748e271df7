//! A socket client for the terminal: says hello, sends each line of standard input, prints every frame.
//! Owns no protocol of its own; what it sends is what is typed.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

/// Follows the live feed from a terminal.
///
/// Each line of standard input is sent as one frame; each frame of the server is printed as one line.
#[derive(Parser)]
#[command(after_help = "Examples:\n  \
    feedcat --token \"$TOKEN\" --sub \"$LOT\"\n  \
    echo '{\"id\":1,\"op\":\"bid.place\",\"d\":{\"lot\":\"…\",\"cid\":\"a1\",\"price\":\"880.00\"}}' | feedcat --token \"$TOKEN\" --linger 1")]
struct Options {
    /// HOST:PORT of the public listener.
    #[arg(long, default_value = "127.0.0.1:8000")]
    address: String,
    /// An access token; without one only public tenders are seen. Better from the environment than typed.
    #[arg(long, env = "TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// A lot to follow; may be given several times.
    #[arg(long)]
    sub: Vec<String>,
    /// Seconds to go on printing after the end of standard input; without it: until the socket ends.
    #[arg(long)]
    linger: Option<u64>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let options = Options::parse();
    let mut request = format!("ws://{}/v1/feed", options.address).into_client_request()?;
    request.headers_mut().insert("Sec-WebSocket-Protocol", "auction.v1.json".parse()?);
    let (mut socket, _) = tokio_tungstenite::connect_async(request)
        .await
        .with_context(|| format!("opening ws://{}/v1/feed", options.address))?;

    let resume: Vec<_> = options.sub.iter().map(|lot| json!({ "lot": lot })).collect();
    let hello = json!({ "token": options.token, "client": "feedcat", "resume": resume });
    let hello = json!({ "id": 0, "op": "hello", "d": hello });
    socket.send(Message::text(hello.to_string())).await?;

    let (typed, mut lines) = mpsc::unbounded_channel();
    // Blocks on the terminal; the process ends without waiting for it.
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            if typed.send(line).is_err() {
                return;
            }
        }
    });
    let mut typing = true;
    let end = tokio::time::sleep(Duration::MAX);
    tokio::pin!(end);
    loop {
        tokio::select! {
            line = lines.recv(), if typing => match line {
                Some(line) if line.trim().is_empty() => {}
                Some(line) => socket.send(Message::text(line)).await?,
                None => {
                    typing = false;
                    if let Some(seconds) = options.linger {
                        end.as_mut().reset(tokio::time::Instant::now() + Duration::from_secs(seconds));
                    }
                }
            },
            frame = socket.next() => match frame {
                Some(Ok(Message::Text(text))) => println!("{text}"),
                Some(Ok(Message::Close(frame))) => bail!("closed by the server: {frame:?}"),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error.into()),
                None => bail!("the socket ended"),
            },
            () = &mut end => {
                socket.close(None).await?;
                return Ok(());
            }
        }
    }
}
