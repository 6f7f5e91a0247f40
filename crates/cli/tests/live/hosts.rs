//! Rules by the server that a client asks for: one TLS server and one HTTP server with many names, and curl that asks for them.

use std::io::{Read as _, Write as _};
use std::time::Duration;

use lab::{Guard, Netns, Topology};

use crate::firewall::{Firewall, eventually};
use crate::network::{Attempt, SERVER, SERVER6, connect, tools, topology};

const ATTACKER: &str = "10.77.2.2";
const ATTACKER6: &str = "fd77:2::2";

const POLICY: &str = r#"
mode = "enforce"
on_failure = "closed"
[default]
inbound = "deny"
outbound = "allow"
forward = "allow"
[detect.payload]
enabled = false
[detect.blocked]
enabled = false

[[rule]]
name = "no ads over TLS"
action = "reject"
sni = ".ads.example"

[[rule]]
name = "no ads over HTTP"
action = "deny"
port = "8080"
http_host = ["ads.example", "192.0.2.99"]

[[rule]]
name = "web"
action = "allow"
direction = "in"
protocol = "tcp"
port = "8080,8443"
"#;

/// Serves HTTPS on 8443 and HTTP on 8080, on all addresses of both families; every name gets its own name back.
const SERVERS: &str = r#"
import http.server, socket, ssl, sys, threading
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = ("I am " + self.headers.get("Host", "nobody")).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    do_POST = do_GET
    def log_message(self, *_):
        pass
class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6
def serve(port, context=None):
    server = Server(("::", port), Handler)
    if context:
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever, daemon=True).start()
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1], sys.argv[2])
serve(8443, context)
serve(8080)
print("SERVING", flush=True)
threading.Event().wait()
"#;

struct Servers {
    _folder: tempfile::TempDir,
    _running: Guard,
}

impl Servers {
    fn start(netns: &Netns) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| folder.path().join(name).display().to_string();
        let (program, certificate, key) =
            (place("servers.py"), place("cert.pem"), place("key.pem"));
        std::fs::write(&program, SERVERS).unwrap();
        let make = [
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=any.example",
            "-keyout",
            &key,
            "-out",
            &certificate,
        ];
        netns.run("openssl", &make).unwrap();
        let running = netns
            .spawn("python3", &["-u", &program, &certificate, &key])
            .unwrap();
        running
            .wait_for_output("SERVING", Duration::from_secs(20))
            .unwrap();
        Self {
            _folder: folder,
            _running: running,
        }
    }
}

fn scene() -> Option<Topology> {
    if !tools(&["curl", "openssl", "python3"]) {
        return None;
    }
    topology()
}

/// What curl gets from the name at this address, and how it ended.
fn fetch(from: &Netns, scheme: &str, name: &str, address: &str, more: &[&str]) -> (String, i32) {
    let port = if scheme == "https" { 8443 } else { 8080 };
    let bracketed = if address.contains(':') {
        format!("[{address}]")
    } else {
        address.to_owned()
    };
    let resolve = format!("{name}:{port}:{bracketed}");
    let url = format!("{scheme}://{name}:{port}/");
    let mut arguments = vec!["-sSk", "-m3", "--resolve", &resolve, &url];
    arguments.extend(more);
    let output = from.output("curl", &arguments).unwrap();
    (
        String::from_utf8_lossy(&output.stdout).into_owned(),
        output.status.code().unwrap(),
    )
}

#[test]
fn a_blocked_name_is_cut_off_and_another_on_the_same_server_is_not() {
    let Some(lab) = scene() else { return };
    let _servers = Servers::start(&lab.server);
    let firewall = Firewall::start(&lab.server, POLICY);
    // What curl calls a reset and a time that ran out.
    const RESET: [i32; 2] = [35, 56];
    const TIMED_OUT: i32 = 28;
    for address in [SERVER, SERVER6] {
        let (said, code) = fetch(&lab.client, "https", "good.example", address, &[]);
        assert_eq!(
            (said.as_str(), code),
            ("I am good.example:8443", 0),
            "{address}"
        );
        for version in ["--tlsv1.3", "--tls-max=1.2"] {
            let more = if version == "--tls-max=1.2" {
                vec!["--tls-max", "1.2"]
            } else {
                vec![version]
            };
            let (said, code) = fetch(&lab.client, "https", "www.ads.example", address, &more);
            assert!(
                said.is_empty() && RESET.contains(&code),
                "{address} {version}: {said} {code}"
            );
            let (said, code) = fetch(&lab.client, "https", "bads.example", address, &more);
            assert_eq!(
                (said.as_str(), code),
                ("I am bads.example:8443", 0),
                "{address}"
            );
        }
        let (said, code) = fetch(&lab.client, "http", "good.example", address, &[]);
        assert_eq!(
            (said.as_str(), code),
            ("I am good.example:8080", 0),
            "{address}"
        );
        let (said, code) = fetch(&lab.client, "http", "ads.example", address, &[]);
        assert_eq!((said.as_str(), code), ("", TIMED_OUT), "{address}");
        let by_address = ["-H", "Host: 192.0.2.99"];
        let (_, code) = fetch(&lab.client, "http", "good.example", address, &by_address);
        assert_eq!(code, TIMED_OUT, "{address}");
    }
    let events = firewall.ask("events --kind alert --json").stdout;
    let (mut names, mut hosts) = (0, 0);
    for line in events.lines() {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        names += usize::from(event["tls"]["sni"] == "www.ads.example");
        hosts += usize::from(event["http"]["hostname"] == "ads.example");
    }
    assert_eq!((names, hosts), (4, 2), "{events}");
    let told = firewall.ask(&format!("why {}", "10.77.1.2")).stdout;
    assert!(told.contains("no ads over TLS"), "{told}");
    let rules = firewall.json("rules");
    assert_eq!(rules[0]["sni"][0], ".ads.example", "{rules}");
    assert_eq!(rules[1]["http_host"][1], "192.0.2.99", "{rules}");
    let packet = format!("test in tcp 10.77.1.2:40000 to {SERVER}:8443 sni www.ads.example");
    let words: Vec<&str> = packet.split(' ').collect();
    assert_eq!(firewall.call(&words).code, 6);
}

#[test]
fn a_name_is_found_however_it_is_cut_and_in_later_requests() {
    let Some(lab) = scene() else { return };
    let _servers = Servers::start(&lab.server);
    let _firewall = Firewall::start(&lab.server, POLICY);
    let hello = policy::HostField::Sni.first_bytes("www.ads.example");
    for address in [SERVER, SERVER6] {
        let Attempt::Open(mut stream) = connect(&lab.client, address, 8443) else {
            panic!("{address}")
        };
        stream.set_nodelay(true).unwrap();
        let mut refused = false;
        for part in hello.chunks(7) {
            refused |= stream.write_all(part).is_err();
            std::thread::sleep(Duration::from_millis(5));
        }
        let mut answer = [0; 64];
        let read = stream.read(&mut answer);
        assert!(refused || read.is_err(), "{address}: {read:?}");

        let Attempt::Open(mut stream) = connect(&lab.client, address, 8080) else {
            panic!("{address}")
        };
        for host in ["one.example", "two.example"] {
            let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
            stream.write_all(request.as_bytes()).unwrap();
            let mut answer = [0; 4_096];
            eventually("an answer", Duration::from_secs(5), || {
                let read = stream.read(&mut answer).unwrap_or(0);
                String::from_utf8_lossy(&answer[..read]).contains(host)
            });
        }
        let request = "GET / HTTP/1.1\r\nHost: ads.example\r\n\r\n";
        stream.write_all(request.as_bytes()).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(2)))
            .unwrap();
        assert!(stream.read(&mut [0; 64]).is_err(), "{address}");
    }
}

#[test]
fn whom_this_host_forwards_for_is_kept_from_the_name_too() {
    let Some(lab) = scene() else { return };
    lab.forward(true).unwrap();
    let _servers = Servers::start(&lab.attacker);
    let _firewall = Firewall::start(&lab.server, POLICY);
    for address in [ATTACKER, ATTACKER6] {
        // By its clients, and by this host itself.
        for from in [&lab.client, &lab.server] {
            let (said, code) = fetch(from, "https", "good.example", address, &[]);
            assert_eq!(
                (said.as_str(), code),
                ("I am good.example:8443", 0),
                "{address}"
            );
            let (said, code) = fetch(from, "https", "ads.example", address, &[]);
            assert!(said.is_empty() && code != 0, "{address}: {said} {code}");
        }
    }
}
