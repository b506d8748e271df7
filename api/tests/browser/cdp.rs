//! A small client of Chromium's DevTools protocol: starts a browser, opens pages in contexts of their own, clicks,
//! types, reads, takes pictures. Knows nothing of what is tested.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

/// Names under which Chromium is installed.
const BROWSERS: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
/// How long the browser may take for one command.
const COMMAND_PATIENCE: Duration = Duration::from_secs(60);
/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(40);

/// Where Chromium is on this machine.
pub fn chromium() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    BROWSERS
        .iter()
        .flat_map(|name| folders.iter().map(move |folder| folder.join(name)))
        .find(|file| file.is_file())
}

type Waiting = Arc<Mutex<HashMap<u64, oneshot::Sender<Value>>>>;
type Complaints = Arc<Mutex<HashMap<String, Vec<String>>>>;

/// A running browser; it ends when this is dropped.
pub struct Browser {
    _process: Process,
    line: Line,
    complaints: Complaints,
}

/// The browser's process.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The way to the browser.
#[derive(Clone)]
struct Line {
    next: Arc<AtomicU64>,
    out: mpsc::UnboundedSender<String>,
    waiting: Waiting,
}

impl Line {
    async fn ask(&self, session: Option<&str>, method: &str, params: Value) -> Value {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let mut request = json!({ "id": id, "method": method, "params": params });
        if let Some(session) = session {
            request["sessionId"] = json!(session);
        }
        let (answer, answered) = oneshot::channel();
        self.waiting.lock().expect("no panic under it").insert(id, answer);
        self.out.send(request.to_string()).expect("the browser runs");
        let answer = timeout(COMMAND_PATIENCE, answered).await;
        let mut answer = answer.unwrap_or_else(|_| panic!("{method} was not answered")).expect("the browser runs");
        assert!(answer["error"].is_null(), "{method}: {}", answer["error"]);
        answer["result"].take()
    }
}

impl Browser {
    /// Starts a browser whose profile lies in `folder`.
    pub async fn start(program: &Path, folder: &Path) -> Self {
        let mut process = Command::new(program)
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-quic",
                "--disable-dev-shm-usage",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--remote-debugging-port=0",
                "--lang=en-GB",
            ])
            .arg(format!("--user-data-dir={}", folder.display()))
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("Chromium starts");
        let messages = BufReader::new(process.stderr.take().expect("it is piped"));
        let process = Process(process);
        let (tell, told) = oneshot::channel();
        // Reads to the end, so that the browser never waits for a reader.
        std::thread::spawn(move || {
            let mut tell = Some(tell);
            for line in messages.lines().map_while(Result::ok) {
                if let Some(address) = line.strip_prefix("DevTools listening on ")
                    && let Some(tell) = tell.take()
                {
                    let _ = tell.send(address.to_owned());
                }
            }
        });
        let address =
            timeout(COMMAND_PATIENCE, told).await.expect("Chromium opens its door").expect("Chromium runs on");
        // Pictures are large.
        let config = WebSocketConfig::default().max_message_size(None).max_frame_size(None);
        let connected = tokio_tungstenite::connect_async_with_config(address, Some(config), true).await;
        let (mut sink, mut stream) = connected.expect("the door is open").0.split();
        let waiting = Waiting::default();
        let complaints = Complaints::default();
        let (out, mut outgoing) = mpsc::unbounded_channel::<String>();
        tokio::spawn(async move {
            while let Some(text) = outgoing.recv().await {
                if sink.send(Message::text(text)).await.is_err() {
                    return;
                }
            }
        });
        let (answers, heard) = (Arc::clone(&waiting), Arc::clone(&complaints));
        tokio::spawn(async move {
            while let Some(Ok(message)) = stream.next().await {
                let Message::Text(text) = message else { continue };
                let frame: Value = serde_json::from_str(&text).expect("the protocol is JSON");
                if let Some(id) = frame["id"].as_u64() {
                    let waits = answers.lock().expect("no panic under it").remove(&id);
                    waits.map(|waits| waits.send(frame));
                } else if let Some(complaint) = complaint(&frame) {
                    let session = frame["sessionId"].as_str().unwrap_or_default().to_owned();
                    heard.lock().expect("no panic under it").entry(session).or_default().push(complaint);
                }
            }
        });
        let line = Line { next: Arc::new(AtomicU64::new(1)), out, waiting };
        Self { _process: process, line, complaints }
    }

    /// A page in a context of its own: no cookie, cache or storage is shared with another.
    pub async fn page(&self, name: &'static str) -> Page {
        let context = self.line.ask(None, "Target.createBrowserContext", json!({})).await;
        let target = json!({ "url": "about:blank", "browserContextId": context["browserContextId"] });
        let target = self.line.ask(None, "Target.createTarget", target).await;
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let attached = self.line.ask(None, "Target.attachToTarget", attach).await;
        let session = attached["sessionId"].as_str().expect("a session").to_owned();
        let page = Page { name, line: self.line.clone(), session, complaints: Arc::clone(&self.complaints) };
        for domain in ["Page", "Runtime", "Log"] {
            page.ask(&format!("{domain}.enable"), json!({})).await;
        }
        page.window(1_440, 900, false).await;
        page
    }
}

/// What a page complains about, if `frame` is a complaint: exceptions, and errors the browser logs.
fn complaint(frame: &Value) -> Option<String> {
    let params = &frame["params"];
    match frame["method"].as_str()? {
        "Runtime.exceptionThrown" => Some(params["exceptionDetails"].to_string()),
        "Log.entryAdded" if params["entry"]["level"] == "error" => {
            Some(format!("{} {}", params["entry"]["text"], params["entry"]["url"]))
        }
        _ => None,
    }
}

/// One page.
pub struct Page {
    name: &'static str,
    line: Line,
    session: String,
    complaints: Complaints,
}

impl Page {
    async fn ask(&self, method: &str, params: Value) -> Value {
        self.line.ask(Some(&self.session), method, params).await
    }

    /// Goes to an address.
    pub async fn go(&self, address: &str) {
        self.ask("Page.navigate", json!({ "url": address })).await;
        self.until("document.readyState === 'complete'").await;
    }

    /// The value of an expression.
    pub async fn value(&self, expression: &str) -> Value {
        let params = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let mut answer = self.ask("Runtime.evaluate", params).await;
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {}", answer["exceptionDetails"]);
        answer["result"]["value"].take()
    }

    /// Waits until an expression is true.
    pub async fn until(&self, expression: &str) {
        self.within(Duration::from_secs(30), expression).await;
    }

    /// Waits longer.
    pub async fn within(&self, patience: Duration, expression: &str) {
        let end = Instant::now() + patience;
        while self.value(&format!("Boolean({expression})")).await != true {
            if Instant::now() > end {
                self.picture("failed").await;
                let text = self.value("document.body.innerText").await;
                let complaints = self.complaints();
                panic!(
                    "{}: never came true: {expression}\nthe page says: {text}\nerrors: {complaints:#?}",
                    self.name
                );
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Waits until the text of the page has `words` in it.
    pub async fn reads(&self, words: &str) {
        self.until(&format!("document.body.innerText.includes({})", json!(words))).await;
    }

    /// Clicks the middle of the first element that `selector` names, as a mouse would.
    pub async fn click(&self, selector: &str) {
        let found = format!("document.querySelector({})", json!(selector));
        self.until(&format!("{found} && !{found}.disabled")).await;
        let place = format!(
            "(() => {{ const at = {found}; at.scrollIntoView({{ block: 'center' }}); \
             const box = at.getBoundingClientRect(); return [box.x + box.width / 2, box.y + box.height / 2]; }})()"
        );
        // As a person waits until the page stands still.
        let mut middle = self.value(&place).await;
        loop {
            sleep(LOOK_EVERY).await;
            let now = self.value(&place).await;
            if now == middle {
                break;
            }
            middle = now;
        }
        for kind in ["mousePressed", "mouseReleased"] {
            let mouse = json!({ "type": kind, "x": middle[0], "y": middle[1], "button": "left", "clickCount": 1 });
            self.ask("Input.dispatchMouseEvent", mouse).await;
        }
    }

    /// Clicks the first element that `selector` names and whose text is `text`.
    pub async fn click_text(&self, selector: &str, text: &str) {
        let find = format!(
            "[...document.querySelectorAll({})].find((at) => at.textContent.trim().includes({}))",
            json!(selector),
            json!(text)
        );
        self.until(&find).await;
        self.value(&format!(
            "document.querySelectorAll('[data-test-target]').forEach((at) => at.removeAttribute('data-test-target')), \
             {find}.setAttribute('data-test-target', '')"
        ))
        .await;
        self.click("[data-test-target]").await;
    }

    /// Replaces what stands in a field, as somebody who types would.
    pub async fn fill(&self, selector: &str, text: &str) {
        self.click(selector).await;
        self.value(&format!("document.querySelector({}).select()", json!(selector))).await;
        self.ask("Input.insertText", json!({ "text": text })).await;
    }

    /// Sets the size of the window, and whether the person prefers dark.
    pub async fn window(&self, width: u32, height: u32, dark: bool) {
        let mobile = width < 600;
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile });
        self.ask("Emulation.setDeviceMetricsOverride", size).await;
        let value = if dark { "dark" } else { "light" };
        let media = json!({ "features": [{ "name": "prefers-color-scheme", "value": value }] });
        self.ask("Emulation.setEmulatedMedia", media).await;
    }

    /// Takes a picture of the whole page into `target/browser/`.
    pub async fn picture(&self, what: &str) {
        let shot = json!({ "format": "png", "captureBeyondViewport": true });
        let shot = self.ask("Page.captureScreenshot", shot).await;
        let bytes = base64::engine::general_purpose::STANDARD.decode(shot["data"].as_str().expect("a picture"));
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("target/").join("browser");
        fs::create_dir_all(&folder).expect("target/ can be written");
        fs::write(folder.join(format!("{}-{what}.png", self.name)), bytes.expect("base64")).expect("a picture");
    }

    /// Takes pictures narrow and wide, light and dark, and checks that nothing sticks out of a narrow window.
    pub async fn pictures(&self, what: &str) {
        self.value("scrollTo(0, 0)").await;
        for (width, height) in [(360, 740), (1_440, 900)] {
            for dark in [false, true] {
                self.window(width, height, dark).await;
                let look = if dark { "dark" } else { "light" };
                self.picture(&format!("{what}-{width}-{look}")).await;
            }
            let over =
                self.value("document.documentElement.scrollWidth - document.documentElement.clientWidth").await;
            assert_eq!(over, 0, "{} {what}: wider than a window of {width} px", self.name);
        }
        self.window(1_440, 900, false).await;
    }

    /// What the page and the browser complained about so far.
    pub fn complaints(&self) -> Vec<String> {
        self.complaints.lock().expect("no panic under it").get(&self.session).cloned().unwrap_or_default()
    }
}
