// SPDX-License-Identifier: GPL-2.0

//! The monitor of the guest's QEMU, through the virtio port `qmp` of `scripts/vm`.
//!
//! Protocol: one JSON object a line, <https://www.qemu.org/docs/master/interop/qmp-spec.html>.

use crate::poll;
use anyhow::{bail, ensure, Context, Result};
use serde_json::{json, Value};
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

/// The connection; the port lets in one process at a time.
pub struct Monitor {
    port: File,
    received: Lines,
    events: Vec<Value>,
    commands: u64,
}

impl Monitor {
    pub fn open() -> Result<Monitor> {
        let path = find_port().context("no virtio port `qmp`: not the guest of scripts/vm?")?;
        let port = File::options()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(&path)
            .with_context(|| path.display().to_string())?;
        let mut monitor = Monitor {
            port,
            received: Lines::default(),
            events: Vec::new(),
            commands: 0,
        };
        // QEMU has one session for all who open the port. It refuses what only the first has to
        // say, and may still have answers for whoever was here before.
        let id = format!("open {}", std::process::id());
        monitor.send(&json!({ "execute": "qmp_capabilities", "id": id }))?;
        while monitor.receive()?["id"] != id {}
        monitor.events.clear();
        Ok(monitor)
    }

    /// Runs a command and gives what it returns.
    pub fn execute(&mut self, command: &str, arguments: Value) -> Result<Value> {
        self.commands += 1;
        let id = self.commands;
        self.send(&json!({ "execute": command, "arguments": arguments, "id": id }))?;
        loop {
            let mut message = self.receive().with_context(|| command.to_owned())?;
            if message["id"] == id {
                ensure!(
                    message["error"].is_null(),
                    "{command} {arguments}: {}",
                    message["error"]["desc"]
                );
                return Ok(message["return"].take());
            }
            self.events.push(message);
        }
    }

    /// Waits for an event, one that has come meanwhile included, and gives its data.
    pub fn wait_for(&mut self, event: &str, matches: impl Fn(&Value) -> bool) -> Result<Value> {
        loop {
            let mut events = self.events.iter();
            if let Some(at) = events.position(|e| e["event"] == event && matches(&e["data"])) {
                return Ok(self.events.remove(at)["data"].take());
            }
            let message = self.receive().with_context(|| event.to_owned())?;
            self.events.push(message);
        }
    }

    fn send(&mut self, message: &Value) -> Result<()> {
        let line = format!("{message}\n");
        self.port.write_all(line.as_bytes()).context("QMP")
    }

    fn receive(&mut self) -> Result<Value> {
        let (port, received) = (&mut self.port, &mut self.received);
        let line = poll::until_some("a line from QMP", || {
            if let Some(line) = received.next() {
                return Ok(Some(line));
            }
            let mut bytes = [0; 4096];
            match port.read(&mut bytes) {
                Ok(0) => bail!("QMP: QEMU has closed it"),
                Ok(len) => received.push(&bytes[..len]),
                Err(e) if e.kind() == ErrorKind::WouldBlock => (),
                Err(e) => return Err(e).context("QMP"),
            }
            Ok(received.next())
        })?;
        serde_json::from_str(&line).with_context(|| format!("QMP: {line}"))
    }
}

/// `/dev/vport*` whose name is `qmp`.
fn find_port() -> Option<PathBuf> {
    let mut ports = fs::read_dir("/sys/class/virtio-ports").ok()?.flatten();
    ports.find_map(|port| {
        let name = fs::read_to_string(port.path().join("name")).ok()?;
        (name.trim_end() == "qmp").then(|| PathBuf::from("/dev").join(port.file_name()))
    })
}

/// Cuts what comes into lines.
#[derive(Default)]
struct Lines(Vec<u8>);

impl Lines {
    fn push(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn next(&mut self) -> Option<String> {
        let end = self.0.iter().position(|&byte| byte == b'\n')?;
        let line: Vec<u8> = self.0.drain(..=end).collect();
        Some(String::from_utf8_lossy(&line).trim_end().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_whole_however_they_are_cut() {
        let mut lines = Lines::default();
        lines.push(b"{\"a\":");
        assert_eq!(lines.next(), None);
        lines.push(b"1}\r\n{}\r\n{");
        assert_eq!(lines.next().as_deref(), Some("{\"a\":1}"));
        assert_eq!(lines.next().as_deref(), Some("{}"));
        assert_eq!(lines.next(), None);
    }
}
