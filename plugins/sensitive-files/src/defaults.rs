//! The built-in list.

use crate::settings::AccessSetting;

/// What nobody but the programs made for it should read or change. Chosen so
/// that ordinary servers and builds never touch it; programs that check
/// passwords (`login`, `su`, `sudo`, `sshd`) do, and need rules of their own.
pub(crate) const DEFAULTS: &[(AccessSetting, &[&str])] = &[
    (
        AccessSetting::Any,
        &[
            // Password hashes, their backups, and the copies that
            // shadow-utils writes before it renames them.
            "/etc/{shadow,gshadow}{,-,+}",
            "/etc/nshadow",
            "/etc/security/opasswd",
            // Private keys.
            "/root/.ssh",
            "/home/*/.ssh/id_{rsa,dsa,ecdsa,ecdsa_sk,ed25519,ed25519_sk}",
            "/etc/ssh/*_key",
            "/etc/ssl/private",
            // Credentials of clouds, clusters and hosts.
            "/root/.aws/credentials",
            "/home/*/.aws/credentials",
            "/root/.kube/config",
            "/home/*/.kube/config",
            "/etc/kubernetes/*.conf",
            "/etc/krb5.keytab",
        ],
    ),
    (
        AccessSetting::Write,
        &[
            // Who may become root or log in, and what every program loads.
            "/etc/sudoers",
            "/etc/sudoers.d",
            "/home/*/.ssh/authorized_keys",
            "/etc/ld.so.preload",
        ],
    ),
];
