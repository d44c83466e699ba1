//! Headless Chromium, driven as a reader would: by pointer, wheel and keys.
//!
//! `chromedriver` speaks [WebDriver](https://www.w3.org/TR/webdriver2/), which is JSON over plain HTTP; a client crate would
//! bring more code than there is here.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::programs;

/// A browser with one window. It ends with this value.
#[derive(Debug)]
pub struct Browser {
    driver: Child,
    port: u16,
    session: String,
    /// What Chromium keeps between runs: nothing.
    profile: TempDir,
}

/// Keys, in the code of `WebDriver`.
pub mod key {
    /// Tab
    pub const TAB: &str = "\u{e004}";
    /// Enter
    pub const ENTER: &str = "\u{e007}";
    /// Escape
    pub const ESCAPE: &str = "\u{e00c}";
    /// The arrow to the right
    pub const RIGHT: &str = "\u{e014}";
}

impl Browser {
    /// Starts one with a window of this many pixels; nothing, with a loud note, where Chromium or
    /// its driver is missing.
    ///
    /// # Panics
    ///
    /// When one is missing although `CI` is `true`, and when they do not start.
    pub fn start(width: u32, height: u32) -> Option<Self> {
        let note = "no browser to open pages in: install chromium and chromium-driver";
        let [chromium, driver] = programs(["chromium", "chromedriver"], note)?;
        let profile = tempfile::Builder::new().prefix("nixcache-chromium-").tempdir().unwrap();
        let mut driver = Command::new(driver)
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver starts");
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
        let port = lines.find_map(|line| {
            let line = line.unwrap();
            line.strip_suffix('.')?.strip_prefix("ChromeDriver was started successfully on port ")?.parse().ok()
        });
        let mut browser =
            Self { driver, port: port.expect("chromedriver says its port"), session: String::new(), profile };
        let mut arguments: Vec<String> = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--force-prefers-reduced-motion",
            "--hide-scrollbars",
        ]
        .map(str::to_owned)
        .into();
        arguments.push(format!("--user-data-dir={}", browser.profile.path().display()));
        arguments.push(format!("--window-size={width},{height}"));
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "browserName": "chrome",
            "goog:chromeOptions": {"binary": chromium, "args": arguments},
            "goog:loggingPrefs": {"browser": "ALL"},
        }}});
        let session = browser.ask("POST", "/session", &wanted);
        session["sessionId"].as_str().expect("a session has a name").clone_into(&mut browser.session);
        Some(browser)
    }

    /// One request to the driver, and the `value` of its answer.
    fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        let body = if method == "POST" { body.to_string() } else { String::new() };
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let length = body.len();
        // In one piece: the driver waits for the rest of a cut request, and the kernel for more to
        // send.
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = BufReader::new(stream);
        let mut length = 0;
        loop {
            let mut line = String::new();
            answer.read_line(&mut line).unwrap();
            if line.trim_end().is_empty() {
                break;
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().unwrap();
            }
        }
        let mut body = Vec::new();
        answer.take(length).read_to_end(&mut body).unwrap();
        let mut answer: Value = serde_json::from_slice(&body).unwrap();
        let value = answer["value"].take();
        assert!(value.get("error").is_none(), "{method} {path}: {}: {}", value["error"], value["message"]);
        value
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        self.ask("POST", &format!("/session/{}{path}", self.session), body)
    }

    /// Opens a file, and returns when it is loaded.
    pub fn open(&self, file: &Path) {
        self.post("/url", &json!({"url": format!("file://{}", file.display())}));
    }

    /// The value of a JavaScript expression.
    pub fn value(&self, expression: &str) -> Value {
        self.post("/execute/sync", &json!({"script": format!("return {expression}"), "args": []}))
    }

    /// The value of a JavaScript expression that is a text.
    pub fn text(&self, expression: &str) -> String {
        let value = self.value(expression);
        value.as_str().unwrap_or_else(|| panic!("{expression} is {value}")).to_owned()
    }

    /// The way to the first element that a CSS selector finds.
    fn find(&self, selector: &str) -> String {
        let element = self.post("/element", &json!({"using": "css selector", "value": selector}));
        let name = element.as_object().and_then(|object| object.values().next()?.as_str().map(str::to_owned));
        format!("/element/{}", name.expect("an element has a name"))
    }

    /// Scrolls to an element and clicks in its middle.
    pub fn click(&self, selector: &str) {
        self.post(&format!("{}/click", self.find(selector)), &json!({}));
    }

    /// Types into an element.
    pub fn type_into(&self, selector: &str, keys: &str) {
        self.post(&format!("{}/value", self.find(selector)), &json!({"text": keys}));
    }

    /// Types a key into the element that has the focus.
    pub fn press(&self, key: &str) {
        let actions = [json!({"type": "keyDown", "value": key}), json!({"type": "keyUp", "value": key})];
        self.post("/actions", &json!({"actions": [{"type": "key", "id": "keys", "actions": actions}]}));
    }

    /// Moves the mouse to a place in the window and clicks there `times` times.
    pub fn click_at(&self, x: i64, y: i64, times: usize) {
        let mut actions = vec![json!({"type": "pointerMove", "x": x, "y": y, "duration": 0})];
        for _ in 0..times {
            actions.extend(["pointerDown", "pointerUp"].map(|kind| json!({"type": kind, "button": 0})));
        }
        let mouse = json!({"type": "pointer", "id": "mouse", "actions": actions});
        self.post("/actions", &json!({"actions": [mouse]}));
    }

    /// Turns the wheel at a place in the window.
    pub fn wheel_at(&self, x: i64, y: i64, delta: i64) {
        let turn = json!({"type": "scroll", "x": x, "y": y, "deltaX": 0, "deltaY": delta, "duration": 0, "origin": "viewport"});
        self.post("/actions", &json!({"actions": [{"type": "wheel", "id": "wheel", "actions": [turn]}]}));
    }

    /// Gives the page a size in pixels, other than the window's; and `light` or `dark`.
    pub fn emulate(&self, width: u32, height: u32, scheme: &str) {
        for (command, parameters) in [
            (
                "Emulation.setDeviceMetricsOverride",
                json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false}),
            ),
            (
                "Emulation.setEmulatedMedia",
                json!({"features": [
                    {"name": "prefers-color-scheme", "value": scheme}, {"name": "prefers-reduced-motion", "value": "reduce"},
                ]}),
            ),
        ] {
            self.post("/goog/cdp/execute", &json!({"cmd": command, "params": parameters}));
        }
    }

    /// Errors and warnings of the page since the last call.
    pub fn complaints(&self) -> Vec<String> {
        let log = self.post("/se/log", &json!({"type": "browser"}));
        let lines = log.as_array().into_iter().flatten();
        lines.filter_map(|line| line["message"].as_str().map(str::to_owned)).collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Not by `ask`, which may panic, and this may run because something did.
        if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) {
            let request =
                format!("DELETE /session/{} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", self.session);
            let _ = stream.write_all(request.as_bytes());
            let _ = stream.read(&mut [0; 512]);
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
