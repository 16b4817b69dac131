//! A DNS server with one SRV record, for HAProxy's `resolvers`.

use std::net::Ipv4Addr;

use tokio::{net::UdpSocket, task::JoinHandle};

/// The name of the service.
pub const SERVICE: &str = "_app._tcp.test.";
const SRV: u16 = 33;
const A: u16 = 1;

/// A DNS server.
#[derive(Debug)]
pub struct Dns {
    port: u16,
    task: JoinHandle<()>,
}

impl Dns {
    /// Starts a server that answers for [`SERVICE`] with one target per weight, each at 127.0.0.1:9.
    pub async fn start(weights: &'static [u16]) -> anyhow::Result<Self> {
        Self::start_at(0, weights).await
    }

    /// The same at this port. Every other name is at 127.0.0.1.
    pub async fn start_at(port: u16, weights: &'static [u16]) -> anyhow::Result<Self> {
        let socket = UdpSocket::bind(("127.0.0.1", port)).await?;
        let port = socket.local_addr()?.port();
        let task = tokio::spawn(async move {
            let mut buffer = [0; 1500];
            while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                if let Some(answer) = answer(&buffer[..length], weights) {
                    // The client may have gone.
                    let _ = socket.send_to(&answer, from).await;
                }
            }
        });
        Ok(Self { port, task })
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn answer(query: &[u8], weights: &[u16]) -> Option<Vec<u8>> {
    let question = question(query)?;
    let kind = u16::from_be_bytes([*query.get(question.end)?, *query.get(question.end + 1)?]);
    let records: Vec<Vec<u8>> = match kind {
        SRV => (1..).zip(weights).map(|(number, weight)| srv(number, *weight)).collect(),
        A => vec![[&Ipv4Addr::LOCALHOST.octets()[..]].concat()],
        _ => Vec::new(),
    };
    // Id, flags of an authoritative answer, one question, the number of answers.
    let mut text = query.get(..2)?.to_vec();
    text.extend([0x84, 0, 0, 1]);
    text.extend(u16::try_from(records.len()).ok()?.to_be_bytes());
    text.extend([0; 4]);
    text.extend(query.get(question.start..question.end + 4)?);
    for record in records {
        // The name is a pointer to the question at offset 12. Class IN, time to live 1 s.
        text.extend([0xc0, 12]);
        text.extend(kind.to_be_bytes());
        text.extend([0, 1, 0, 0, 0, 1]);
        text.extend(u16::try_from(record.len()).ok()?.to_be_bytes());
        text.extend(record);
    }
    Some(text)
}

/// The range of the name in the question, with the final zero.
fn question(query: &[u8]) -> Option<std::ops::Range<usize>> {
    let mut at = 12;
    while let length @ 1.. = usize::from(*query.get(at)?) {
        at += length + 1;
    }
    Some(12..at + 1)
}

fn srv(number: u16, weight: u16) -> Vec<u8> {
    let mut record = vec![0, 1];
    record.extend(weight.to_be_bytes());
    record.extend([0, 9]);
    for label in [format!("node{number}"), "test".to_owned()] {
        record.push(u8::try_from(label.len()).unwrap_or_default());
        record.extend(label.into_bytes());
    }
    record.push(0);
    record
}
