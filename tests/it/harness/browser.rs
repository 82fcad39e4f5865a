//! A real browser, controlled over a pipe with the Chrome DevTools Protocol; scripts are off by default.
//!
//! The protocol returns the document as parsed and its width, so no script has to run in the page.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc;

use base64::prelude::*;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::PATIENCE;

/// A running Chromium. It is killed when dropped.
pub(crate) struct Browser {
    child: Child,
    requests: ChildStdin,
    messages: mpsc::Receiver<Value>,
    last: u64,
    session: Option<String>,
    _directory: TempDir,
}

/// A rendered page.
#[derive(Debug)]
pub(crate) struct RenderedPage {
    /// The document, as parsed.
    pub html: String,
    /// Its width in CSS pixels; a page wider than the window scrolls sideways.
    pub width: f64,
}

impl Browser {
    /// Starts a browser with scripts disabled and a fresh profile, and opens a tab.
    pub(crate) fn start() -> Self {
        Self::launch(&["--blink-settings=scriptEnabled=false"])
    }

    /// The same, for pages that draw with scripts.
    pub(crate) fn start_with_scripts() -> Self {
        Self::launch(&[])
    }

    fn launch(flags: &[&str]) -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        // Chromium uses file descriptors 3 and 4 for the protocol; a shell can set them up.
        let mut child = Command::new("sh")
            .args(["-c", "exec 3<&0 4>&1 0</dev/null 1>/dev/null; exec chromium \"$@\"", "sh"])
            .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe"])
            .args(flags)
            .arg(format!("--user-data-dir={}", directory.path().display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromium");
        let requests = child.stdin.take().expect("a pipe");
        let answers = child.stdout.take().expect("a pipe");
        let (sender, messages) = mpsc::channel();
        std::thread::spawn(move || {
            for message in BufReader::new(answers).split(0).map_while(Result::ok) {
                let message = serde_json::from_slice(&message).expect("JSON");
                if sender.send(message).is_err() {
                    return;
                }
            }
        });
        let mut browser =
            Self { child, requests, messages, last: 0, session: None, _directory: directory };
        let tab = browser.call("Target.createTarget", &json!({ "url": "about:blank" }));
        let attach = json!({ "targetId": tab["targetId"], "flatten": true });
        let session = browser.call("Target.attachToTarget", &attach);
        browser.session = Some(session["sessionId"].as_str().expect("a session").to_owned());
        browser.call("Page.enable", &json!({}));
        browser
    }

    /// Loads a page in a window of this size.
    pub(crate) fn show(&mut self, url: &str, (width, height): (u32, u32)) -> RenderedPage {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500 });
        self.call("Emulation.setDeviceMetricsOverride", &size);
        let navigated = self.call("Page.navigate", &json!({ "url": url }));
        assert!(navigated["errorText"].is_null(), "{url}: {navigated}");
        self.wait(|message| message["method"] == "Page.loadEventFired");
        let layout = self.call("Page.getLayoutMetrics", &json!({}));
        let root = self.call("DOM.getDocument", &json!({}));
        let html = self.call("DOM.getOuterHTML", &json!({ "nodeId": root["root"]["nodeId"] }));
        RenderedPage {
            html: html["outerHTML"].as_str().expect("a document").to_owned(),
            width: layout["cssContentSize"]["width"].as_f64().expect("a width"),
        }
    }

    /// A PNG screenshot of the whole page.
    pub(crate) fn picture(&mut self) -> Vec<u8> {
        let whole = json!({ "format": "png", "captureBeyondViewport": true });
        let shot = self.call("Page.captureScreenshot", &whole);
        BASE64_STANDARD.decode(shot["data"].as_str().expect("a picture")).expect("base64")
    }

    fn call(&mut self, method: &str, parameters: &Value) -> Value {
        self.last += 1;
        let id = self.last;
        let mut message = json!({ "id": id, "method": method, "params": parameters });
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        self.requests.write_all(format!("{message}\0").as_bytes()).expect("written");
        let answer = self.wait(|message| message["id"] == id);
        assert!(answer["error"].is_null(), "{method}: {answer}");
        answer["result"].clone()
    }

    fn wait(&self, is_wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            let message = self.messages.recv_timeout(PATIENCE).expect("chromium answers");
            if is_wanted(&message) {
                return message;
            }
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It may have exited already.
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}
