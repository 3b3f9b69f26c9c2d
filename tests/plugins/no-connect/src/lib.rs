//! A plugin that keeps programs from addresses, whatever the call: tests of
//! denials that depend on memory other than paths are judged by it.
#![cfg_attr(not(target_arch = "wasm32"), allow(dead_code, reason = "only the component uses it"))]

use plugin_sdk::prelude::*;
use plugin_sdk::{SocketAddress, Value};

/// What must not be reached.
#[derive(Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields, default)]
struct Settings {
    /// Port on 127.0.0.1.
    port: u16,
    /// Name of an `AF_UNIX` socket in the file system.
    unix: String,
    /// Name of an `AF_UNIX` socket in the abstract namespace.
    unix_abstract: String,
    /// Families (`AF_*`) of which no socket may be made.
    families: Vec<u64>,
    /// Calls that are refused with `EPERM` whatever their arguments.
    never: Vec<String>,
}

struct NoConnect(Settings);

/// Every call that names an address to send to.
const SENDING: [&str; 4] = ["connect", "sendto", "sendmsg", "sendmmsg"];

impl Plugin for NoConnect {
    const NAME: &str = "no-connect";
    const SUMMARY: &str = "Keeps programs from addresses";
    type Settings = Settings;

    fn configure(settings: Settings) -> Result<(Self, Subscription), Vec<Issue>> {
        let mut subscription = Subscription::gate().on(entries(SENDING));
        for family in &settings.families {
            subscription = subscription.on(entry("socket").when(arg(0).masked(0xffff_ffff).eq(*family)));
        }
        for name in &settings.never {
            subscription = subscription.on(entry(name));
        }
        Ok((Self(settings), subscription))
    }

    fn on_entry(&mut self, event: &Entry<'_>) -> Verdict {
        let call = event.syscall();
        let refused = if SENDING.contains(&call) {
            event.arguments().iter().any(|argument| self.is_forbidden(argument))
        } else {
            true
        };
        if !refused {
            return Verdict::allow();
        }
        Verdict::deny(Errno::EPERM).alert(Alert::new("no-connect").message(format!("{} calls {call}", event.caller())))
    }
}

impl NoConnect {
    fn is_forbidden(&self, argument: &Value) -> bool {
        match argument {
            Value::Address(address) => self.is_ours(address),
            Value::Messages(messages) => {
                messages.iter().filter_map(|message| message.address.as_ref()).any(|address| self.is_ours(address))
            }
            // What cannot be read could be anything.
            Value::Unreadable(_) => true,
            _ => false,
        }
    }

    fn is_ours(&self, address: &SocketAddress) -> bool {
        match address {
            SocketAddress::Ipv4(address) => address.address == (127, 0, 0, 1) && address.port == self.0.port,
            SocketAddress::UnixPath(path) => *path == self.0.unix,
            SocketAddress::UnixAbstract(name) => *name == self.0.unix_abstract,
            _ => false,
        }
    }
}

plugin_sdk::export!(NoConnect);
