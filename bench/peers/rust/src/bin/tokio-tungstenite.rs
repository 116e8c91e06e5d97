//! tokio-tungstenite on a runtime of one thread: its examples `echo-server` and, for `--broadcast`, `server` (a channel
//! for each connection, forwarded to its sink), less what they print.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::ready;
use std::rc::Rc;

use futures_channel::mpsc::{UnboundedSender, unbounded};
use futures_util::{StreamExt, TryStreamExt, future, pin_mut};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::accept_async;
use tokio_tungstenite::tungstenite::Message;

type Peers = Rc<RefCell<HashMap<u64, UnboundedSender<Message>>>>;

async fn echo(stream: TcpStream) -> Option<()> {
    let (write, read) = accept_async(stream).await.ok()?.split();
    read.try_filter(|message| ready(message.is_text() || message.is_binary())).forward(write).await.ok()
}

async fn broadcast(stream: TcpStream, id: u64, peers: Peers) -> Option<()> {
    let (outgoing, incoming) = accept_async(stream).await.ok()?.split();
    let (sender, receiver) = unbounded();
    peers.borrow_mut().insert(id, sender);
    let to_others = incoming.try_for_each(|message| {
        if message.is_text() || message.is_binary() {
            for (_, other) in peers.borrow().iter().filter(|(other, _)| **other != id) {
                let _ = other.unbounded_send(message.clone());
            }
        }
        future::ok(())
    });
    let from_others = receiver.map(Ok).forward(outgoing);
    pin_mut!(to_others, from_others);
    future::select(to_others, from_others).await;
    peers.borrow_mut().remove(&id);
    Some(())
}

#[tokio::main(flavor = "local")]
async fn main() -> std::io::Result<()> {
    let broadcasting = std::env::args().any(|argument| argument == "--broadcast");
    let peers = Peers::default();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("listening on {}", listener.local_addr()?);
    for id in 0.. {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        if broadcasting {
            tokio::task::spawn_local(broadcast(stream, id, peers.clone()));
        } else {
            tokio::task::spawn_local(echo(stream));
        }
    }
    Ok(())
}
