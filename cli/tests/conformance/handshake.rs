//! Sections 1.3, 4 and 11: the opening handshake.

use anyhow::{Result, ensure};

use crate::Case;
use crate::wire::{ACCEPT, Response, Target};

pub(crate) const CASES: &[Case] = &[
    Case::new("1.3", "the key of the RFC's example is answered as there", |target| good(target, |_| {})),
    Case::new("4.2.1/3", "the upgrade's name is read in any case", |target| {
        good(target, |lines| replace(lines, "Upgrade:", "uPGRADE: WebSocket"))
    }),
    Case::new("4.2.1/4", "Connection may be a list", |target| {
        good(target, |lines| replace(lines, "Connection:", "connection: keep-alive , UPGRADE"))
    }),
    Case::new("4.2.1/7", "an Origin is taken", |target| {
        good(target, |lines| lines.push("Origin: http://example.com".to_owned()))
    }),
    Case::new("4.2.1/8", "a protocol that the server does not know is not chosen", |target| {
        let response = good_response(target, |lines| lines.push("Sec-WebSocket-Protocol: superchat, chat".to_owned()))?;
        let chosen = response.header("sec-websocket-protocol");
        ensure!(chosen.is_none_or(|chosen| ["superchat", "chat"].contains(&chosen)), "{chosen:?} was not offered");
        Ok(())
    }),
    Case::new("9.1", "no extension is agreed on that was not offered", |target| {
        let response =
            good_response(target, |lines| lines.push("Sec-WebSocket-Extensions: x-unknown; a=1, x-other".to_owned()))?;
        ensure!(response.header("sec-websocket-extensions").is_none(), "{response:?}");
        Ok(())
    }),
    Case::new("4.2.1/1", "a method other than GET is refused", |target| {
        refused(target, &[400, 405], |lines| {
            lines[0] = lines[0].replacen("GET", "POST", 1);
        })
    }),
    Case::new("4.2.1/1", "HTTP/1.0 is refused", |target| {
        refused(target, &[400, 426, 505], |lines| {
            lines[0] = lines[0].replacen("HTTP/1.1", "HTTP/1.0", 1);
        })
    }),
    Case::new("4.2.1/2", "a request without Host is refused", |target| {
        refused(target, &[400], |lines| remove(lines, "Host:"))
    }),
    Case::new("4.2.1/3", "a request without Upgrade is refused", |target| {
        refused(target, &[400, 426], |lines| remove(lines, "Upgrade:"))
    }),
    Case::new("4.2.1/3", "another upgrade is refused", |target| {
        refused(target, &[400, 426], |lines| replace(lines, "Upgrade:", "Upgrade: websockets"))
    }),
    Case::new("4.2.1/4", "a request without Connection: Upgrade is refused", |target| {
        refused(target, &[400, 426], |lines| replace(lines, "Connection:", "Connection: keep-alive"))
    }),
    Case::new("4.2.1/5", "a request without a key is refused", |target| {
        refused(target, &[400], |lines| remove(lines, "Sec-WebSocket-Key:"))
    }),
    Case::new("4.2.1/5", "a key that is not base64 is refused", |target| {
        refused(target, &[400], |lines| {
            replace(lines, "Sec-WebSocket-Key:", "Sec-WebSocket-Key: !!!!!!!!!!!!!!!!!!!!!!==");
        })
    }),
    Case::new("4.2.1/5", "a key of other than 16 bytes is refused", |target| {
        refused(target, &[400], |lines| replace(lines, "Sec-WebSocket-Key:", "Sec-WebSocket-Key: c2hvcnQ="))
    }),
    Case::new("11.3.1", "two keys are refused", |target| {
        refused(target, &[400], |lines| lines.push("Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==".to_owned()))
    }),
    Case::new("4.2.1/6", "a request without a version is refused", |target| {
        refused(target, &[400, 426], |lines| remove(lines, "Sec-WebSocket-Version:"))
    }),
    Case::new("4.4", "another version is answered with 426 and the one that is spoken", |target| {
        for version in ["8", "0", "14", "x"] {
            let response = asked(target, |lines| {
                replace(lines, "Sec-WebSocket-Version:", &format!("Sec-WebSocket-Version: {version}"));
            })?;
            ensure!(response.status == 426, "version {version} is answered with {}", response.status);
            ensure!(response.header("sec-websocket-version") == Some("13"), "version {version}: {response:?}");
        }
        Ok(())
    }),
    Case::new("11.3.5", "a list of versions is not a version", |target| {
        refused(target, &[400, 426], |lines| replace(lines, "Sec-WebSocket-Version:", "Sec-WebSocket-Version: 13, 8"))
    }),
    Case::new("4.2.2", "a resource that is not there is not upgraded", |target| {
        refused(target, &[404], |lines| "GET /no/websocket HTTP/1.1".clone_into(&mut lines[0]))
    }),
    Case::new("4.2.2", "one refused request does not harm the next", |target| {
        refused(target, &[400, 426], |lines| remove(lines, "Sec-WebSocket-Version:"))?;
        good(target, |_| {})
    }),
];

fn replace(lines: &mut [String], name: &str, by: &str) {
    for line in lines.iter_mut().filter(|line| line.starts_with(name)) {
        by.clone_into(line);
    }
}

fn remove(lines: &mut Vec<String>, name: &str) {
    lines.retain(|line| !line.starts_with(name));
}

fn asked(target: &Target, change: impl FnOnce(&mut Vec<String>)) -> Result<Response> {
    let mut lines = target.request();
    change(&mut lines);
    Ok(target.ask(&lines)?.0)
}

fn good_response(target: &Target, change: impl FnOnce(&mut Vec<String>)) -> Result<Response> {
    let mut lines = target.request();
    change(&mut lines);
    let (response, mut connection) = target.ask(&lines)?;
    ensure!(response.status == 101, "answered with {}", response.status);
    let is =
        |name: &str, expected: &str| response.header(name).is_some_and(|value| value.eq_ignore_ascii_case(expected));
    ensure!(is("upgrade", "websocket") && is("connection", "upgrade"), "4.2.2/5: {response:?}");
    ensure!(response.header("sec-websocket-accept") == Some(ACCEPT), "4.2.2/5: {response:?}");
    connection.lives()?;
    Ok(response)
}

fn good(target: &Target, change: impl FnOnce(&mut Vec<String>)) -> Result<()> {
    good_response(target, change).map(|_| ())
}

fn refused(target: &Target, statuses: &[u16], change: impl FnOnce(&mut Vec<String>)) -> Result<()> {
    let response = asked(target, change)?;
    ensure!(statuses.contains(&response.status), "answered with {} instead of {statuses:?}", response.status);
    ensure!(response.header("sec-websocket-accept").is_none(), "{response:?}");
    Ok(())
}
