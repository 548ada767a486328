//! Alerts by mail, to a mail server that the test is.

use std::{
    io::{BufRead as _, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, mpsc},
};

use proto::wire::operator::TestChannelRequest;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use rustls_pki_types::PrivateKeyDer;
use tempfile::TempDir;

use crate::{
    alerts::{FILE, alerts, private, settled},
    support::{PATIENCE, TestCoordinator},
};

/// A mail that arrived.
#[derive(Debug)]
struct Arrived {
    /// What the client said before the message: commands in order, `TLS` where TLS began.
    commands: Vec<String>,
    text: String,
}

impl Arrived {
    fn header(&self, name: &str) -> &str {
        let line = self.text.lines().find(|line| line.starts_with(&format!("{name}: ")));
        line.unwrap_or_else(|| panic!("no {name} in {}", self.text)).split_once(": ").unwrap().1
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Begins {
    Plainly,
    WithTls,
}

/// A mail server that wants TLS and a password, and knows one recipient.
struct MailServer {
    address: SocketAddr,
    arrived: mpsc::Receiver<Arrived>,
    /// PEM of whom to trust.
    authority: String,
}

/// `\0user\0password` of PLAIN authentication.
const LOGIN: &str = "AUTH PLAIN AGNvbnZveQBzM2NyM3QtbWFpbA==";

impl MailServer {
    fn start(begins: Begins) -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let own =
            rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![own.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
            .unwrap();
        let config = Arc::new(config);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, arrived) = mpsc::channel();
        // Ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mail = match begins {
                    Begins::Plainly => plainly(stream.unwrap(), &config),
                    Begins::WithTls => {
                        let stream = encrypted(stream.unwrap(), &config);
                        talk(stream, vec!["TLS".to_owned()], Hello::Says).1
                    }
                };
                if mail.is_some_and(|mail| sender.send(mail).is_err()) {
                    return;
                }
            }
        });
        Self { address, arrived, authority: own.pem() }
    }

    async fn next(&mut self) -> Arrived {
        tokio::task::block_in_place(|| self.arrived.recv_timeout(PATIENCE)).expect("a mail within patience")
    }
}

fn encrypted(stream: TcpStream, config: &Arc<ServerConfig>) -> StreamOwned<ServerConnection, TcpStream> {
    StreamOwned::new(ServerConnection::new(config.clone()).unwrap(), stream)
}

fn plainly(stream: TcpStream, config: &Arc<ServerConfig>) -> Option<Arrived> {
    let (mut commands, mail) = talk(stream.try_clone().unwrap(), Vec::new(), Hello::Says);
    if commands.last().is_none_or(|last| last != "STARTTLS") {
        return mail;
    }
    commands.push("TLS".to_owned());
    talk(encrypted(stream, config), commands, Hello::Knows).1
}

/// Whether a server begins by saying who it is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Hello {
    Says,
    Knows,
}

/// Whether the client is still there.
fn answer(reader: &mut BufReader<impl Read + Write>, text: &str) -> bool {
    let stream = reader.get_mut();
    write!(stream, "{text}\r\n").and_then(|()| stream.flush()).is_ok()
}

/// Answers commands until a mail, a refusal or STARTTLS ends it.
fn talk(
    stream: impl Read + Write,
    mut commands: Vec<String>,
    hello: Hello,
) -> (Vec<String>, Option<Arrived>) {
    // One byte at a time: what follows STARTTLS is not for this reader.
    let mut reader = BufReader::with_capacity(1, stream);
    if hello == Hello::Says && !answer(&mut reader, "220 mail.example.org ESMTP") {
        return (commands, None);
    }
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return (commands, None);
        }
        let line = line.trim_end().to_owned();
        commands.push(line.clone());
        let safe = commands.iter().any(|command| command == "TLS");
        let reply = match line.split(' ').next().unwrap() {
            "EHLO" if safe => "250-mail.example.org\r\n250 AUTH PLAIN LOGIN",
            "EHLO" => "250-mail.example.org\r\n250 STARTTLS",
            "STARTTLS" => "220 go on",
            "AUTH" if line == LOGIN => "235 welcome",
            "AUTH" => "535 wrong password",
            "MAIL" | "NOOP" | "RSET" => "250 fine",
            "RCPT" if line.contains("nobody@") => "550 no such mailbox",
            "RCPT" => "250 fine",
            "DATA" => "354 go on",
            "QUIT" => "221 bye",
            other => panic!("{other}: {commands:?}"),
        };
        if !answer(&mut reader, reply) || line == "STARTTLS" || line == "QUIT" {
            return (commands, None);
        }
        if line == "DATA" {
            let mut text = String::new();
            while !text.ends_with("\r\n.\r\n") {
                assert_ne!(reader.read_line(&mut text).unwrap(), 0, "{text}");
            }
            answer(&mut reader, "250 taken");
            return (commands.clone(), Some(Arrived { commands, text }));
        }
    }
}

fn channel(dir: &TempDir, server: &MailServer, tls: &str, to: &str) -> String {
    let password = private(dir, "password", "s3cr3t-mail\n");
    let authorities = private(dir, "ca.pem", &server.authority);
    format!(
        "[alerts]\nfirst_after = \"300ms\"\n[alerts.channels.mail]\nkind = \"mail\"\n\
         server = \"localhost:{}\"\ntls = \"{tls}\"\nuser = \"convoy\"\npassword_file = {password:?}\n\
         authorities = {authorities:?}\nfrom = \"Convoy <convoy@acme.example>\"\nto = [{to}]\n",
        server.address.port()
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alert_and_its_end_are_mails_of_one_thread_over_starttls() {
    let mut server = MailServer::start(Begins::Plainly);
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let text = channel(&dir, &server, "starttls", "\"iam@acme.example\", \"Ops <ops@acme.example>\"");
    let coordinator = TestCoordinator::start_in(dir, &text).await;
    let (mut node, _other) = settled(&coordinator).await;
    node.differs(FILE, "tug-of-war").await;
    let began = server.next().await;
    let secure = began.commands.iter().position(|command| command == "TLS").unwrap();
    let password = began.commands.iter().position(|command| command == LOGIN).unwrap();
    assert!(secure < password, "the password goes over TLS only: {:?}", began.commands);
    let recipients = began.commands.iter().filter(|command| command.starts_with("RCPT")).count();
    assert_eq!(recipients, 2);
    assert_eq!(began.header("Subject"), "[warning] acme: Files are changed again and again: is-1");
    assert_eq!(began.header("Auto-Submitted"), "auto-generated");
    let body = began.text.replace("=\r\n", "");
    for part in ["server.hostname", "next: convoy drift show is-1"] {
        assert!(body.contains(part), "{part} is not in {body}");
    }
    assert!(!body.contains("canary"), "{body}");

    node.is_as_declared().await;
    let over = server.next().await;
    assert!(over.header("Subject").starts_with("[over] acme: "), "{over:?}");
    assert_eq!(over.header("References"), began.header("References"));
    assert_ne!(over.header("Message-ID"), began.header("Message-ID"));
    coordinator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_server_that_refuses_is_named_with_its_words() {
    let mut server = MailServer::start(Begins::WithTls);
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let text = channel(&dir, &server, "tls", "\"iam@acme.example\"");
    let more = text.replace("channels.mail", "channels.nobody").replace("iam@", "nobody@");
    let more = more.split_once("[alerts.channels").unwrap().1;
    let text = format!("{text}[alerts.channels{more}");
    let coordinator = TestCoordinator::start_in(dir, &text).await;
    let mut client = alerts(&coordinator).await;
    let test = |channel: &str| TestChannelRequest { channel: channel.to_owned() };
    let taken = client.test(test("mail")).await.unwrap().into_inner();
    assert!(taken.ok, "{taken:?}");
    assert_eq!(server.next().await.header("Subject"), "[test] acme: admin tests this channel");
    let refused = client.test(test("nobody")).await.unwrap().into_inner();
    assert!(!refused.ok && refused.detail.contains("no such mailbox"), "{refused:?}");
    coordinator.stop().await;
}
