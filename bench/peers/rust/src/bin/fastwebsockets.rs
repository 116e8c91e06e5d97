//! fastwebsockets behind hyper on a runtime of one thread: its example `echo_server`, less what it prints. For
//! `--broadcast` the connection is split, as in `echo_server_split`, and written to by a task that a channel feeds.

use std::cell::RefCell;
use std::collections::HashMap;
use std::convert::Infallible;
use std::rc::Rc;

use bytes::Bytes;
use fastwebsockets::upgrade::{UpgradeFut, upgrade};
use fastwebsockets::{FragmentCollector, FragmentCollectorRead, Frame, OpCode, Payload, WebSocketError};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::task::spawn_local;

type Peers = Rc<RefCell<HashMap<u64, UnboundedSender<(OpCode, Bytes)>>>>;

async fn echo(upgrade: UpgradeFut) -> Result<(), WebSocketError> {
    let mut ws = FragmentCollector::new(upgrade.await?);
    loop {
        let frame = ws.read_frame().await?;
        match frame.opcode {
            OpCode::Close => return Ok(()),
            OpCode::Text | OpCode::Binary => ws.write_frame(frame).await?,
            _ => {}
        }
    }
}

async fn broadcast(upgrade: UpgradeFut, id: u64, peers: Peers) -> Result<(), WebSocketError> {
    let (read, mut write) = upgrade.await?.split(tokio::io::split);
    let mut read = FragmentCollectorRead::new(read);
    let (sender, mut receiver) = unbounded_channel::<(OpCode, Bytes)>();
    peers.borrow_mut().insert(id, sender);
    let writing = spawn_local(async move {
        while let Some((opcode, payload)) = receiver.recv().await {
            write.write_frame(Frame::new(true, opcode, None, Payload::Borrowed(&payload))).await?;
        }
        Ok::<_, WebSocketError>(())
    });
    loop {
        // What the protocol would answer (pongs, closes) is left out: in this mode the load sends messages only.
        let frame = read.read_frame(&mut |_| async { Ok::<_, Infallible>(()) }).await;
        match frame {
            Ok(frame) if matches!(frame.opcode, OpCode::Text | OpCode::Binary) => {
                let payload = Bytes::from(frame.payload.to_vec());
                for (_, other) in peers.borrow().iter().filter(|(other, _)| **other != id) {
                    let _ = other.send((frame.opcode, payload.clone()));
                }
            }
            Ok(frame) if frame.opcode != OpCode::Close => {}
            _ => break,
        }
    }
    peers.borrow_mut().remove(&id);
    writing.abort();
    Ok(())
}

async fn accept(
    mut request: Request<Incoming>,
    id: u64,
    peers: Option<Peers>,
) -> Result<Response<Empty<Bytes>>, WebSocketError> {
    let (response, upgraded) = upgrade(&mut request)?;
    match peers {
        Some(peers) => spawn_local(broadcast(upgraded, id, peers)),
        None => spawn_local(tokio::task::unconstrained(echo(upgraded))),
    };
    Ok(response)
}

#[tokio::main(flavor = "local")]
async fn main() -> std::io::Result<()> {
    let peers = std::env::args().any(|argument| argument == "--broadcast").then(Peers::default);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("listening on {}", listener.local_addr()?);
    for id in 0.. {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let peers = peers.clone();
        spawn_local(async move {
            let service = service_fn(move |request| accept(request, id, peers.clone()));
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades().await;
        });
    }
    Ok(())
}
