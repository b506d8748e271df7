//! People at a real server with real browsers: signing up, admitting, bidding. Knows what the page looks like, and no
//! story.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::json;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use super::cdp::Page;

/// How long the server may take to take connections.
const START_PATIENCE: Duration = Duration::from_secs(60);
/// The password of everybody.
pub const PASSWORD: &str = "a long practice password";

/// The server, killed when dropped.
pub struct Server {
    process: Child,
}

impl Server {
    /// Starts it and waits until it takes connections.
    pub async fn start(address: SocketAddr, data: &Path) -> Self {
        let process = Command::new(env!("CARGO_BIN_EXE_reversetender"))
            .arg("serve")
            .arg("--data")
            .arg(data)
            .args(["--listen", &address.to_string(), "--admin-listen", "127.0.0.1:0", "--limits", "off"])
            .stdin(Stdio::null())
            .spawn()
            .expect("the server starts");
        let end = Instant::now() + START_PATIENCE;
        while TcpStream::connect(address).await.is_err() {
            assert!(Instant::now() < end, "the server takes no connections");
            sleep(Duration::from_millis(20)).await;
        }
        Self { process }
    }

    /// Ends it as a power cut would.
    pub fn kill(self) {
        drop(self);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill().expect("it can be killed");
        self.process.wait().expect("it ends");
    }
}

/// A free port on loopback.
pub fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port")
}

/// Signs up over the form.
pub async fn sign_up(page: &Page, origin: &str, organisation: &str, kind: &str) {
    page.go(&format!("{origin}/sign-up")).await;
    page.fill("[name=organisation]", organisation).await;
    page.click(&format!("[name=kind][value={kind}]")).await;
    page.fill("[name=name]", "Somebody").await;
    page.fill("[name=email]", &email(organisation)).await;
    page.fill("[name=password]", PASSWORD).await;
    page.click("[data-form=sign-up] button[type=submit]").await;
    page.until("document.querySelector('[data-action=sign-out]')").await;
}

/// The e-mail address of who signed `organisation` up.
pub fn email(organisation: &str) -> String {
    format!("{}@example.com", organisation.to_lowercase().replace(' ', "."))
}

/// Admits a supplier that is found by its name.
pub async fn admit(page: &Page, organisation: &str) {
    page.fill("[name=supplier]", &organisation[..5]).await;
    page.click(&format!("[data-admit='{organisation}']")).await;
    let inside = format!(
        "[...document.querySelectorAll('[data-part=suppliers] .lines li')].some((line) => \
                          line.textContent.includes('{organisation}') && !line.querySelector('button'))"
    );
    page.until(&inside).await;
}

/// Types a price and places it.
pub async fn bid(page: &Page, price: &str) {
    page.fill("[data-part=bid-box] [name=price]", price).await;
    page.click("[data-action=place-bid]").await;
}

/// Waits for what became of the newest bid.
pub async fn outcome(page: &Page, outcome: &str, code: &str) {
    let said = format!("document.querySelector('[data-outcome={}][data-code={}]')", json!(outcome), json!(code));
    page.until(&said).await;
}

/// Waits for a rank.
pub async fn rank(page: &Page, rank: u32, leads: bool) {
    page.until(&format!(
        "document.querySelector('[data-part=rank][data-lead=\"{leads}\"] [data-rank=\"{rank}\"]')"
    ))
    .await;
}

/// Fails if a page complained about anything that is no part of the stories.
pub fn check_complaints(pages: &[&Page]) {
    for page in pages {
        let complaints: Vec<String> = page.complaints().into_iter().filter(|said| !expected(said)).collect();
        assert!(complaints.is_empty(), "{complaints:#?}");
    }
}

/// Complaints that belong to the story: the server was away, which a browser tells in a dozen ways (depending on
/// whether the socket was being opened, was open or had been kept), and refusals are answers.
fn expected(complaint: &str) -> bool {
    [
        "net::ERR_CONNECTION_",
        "net::ERR_SOCKET_NOT_CONNECTED",
        "net::ERR_EMPTY_RESPONSE",
        "net::ERR_INCOMPLETE_CHUNKED_ENCODING",
        "net::ERR_NETWORK_CHANGED",
        "status of 422",
        "status of 409",
        "status of 503",
    ]
    .iter()
    .any(|known| complaint.contains(known))
}
