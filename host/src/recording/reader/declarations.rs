//! Finds the declaration under which a call was recorded.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::decode::{Arch, Arg, Changes, Spec};
use crate::recording::Header;
use crate::recording::arguments::Arguments;
use crate::recording::error::Problem;
use crate::recording::format::arch_name;

/// Declarations that are not this host's own.
#[derive(Default)]
pub(super) struct Declarations {
    /// Calls that this host declares but the recorder did not, with words for
    /// arguments: name → that declaration.
    undeclared: HashMap<&'static str, &'static Spec>,
}

impl Declarations {
    pub(super) fn find(
        &mut self,
        arch: Arch,
        nr: u32,
        name: &str,
        args: &Arguments<'_>,
        header: &Header,
    ) -> Result<&'static Spec, Problem> {
        let spec = arch.spec(nr);
        let same_name = if spec.name.is_empty() { arch.syscall_name(nr) == name } else { spec.name == name };
        if !same_name {
            return Err(Problem::Syscall {
                arch: arch_name(arch).into(),
                nr,
                recorded: name.chars().take(64).collect(),
                ours: arch.syscall_name(nr).into_owned(),
                host: header.host.clone(),
            });
        }
        let recorded_as = |spec: &Spec| {
            args.list.len() == spec.args.len()
                && spec.args.iter().zip(&args.names).all(|(arg, name)| name.as_deref() == Some(arg.name))
        };
        if recorded_as(spec) {
            return Ok(spec);
        }
        // A number that no kernel has gets the declaration of the undeclared.
        let words = arch.spec(u32::MAX).args;
        if recorded_as(&Spec { name: spec.name, args: words, changes: Changes::Nothing }) {
            return Ok(self.undeclared(spec.name, words));
        }
        let names = |names: &mut dyn Iterator<Item = &str>| names.collect::<Vec<_>>().join(", ");
        Err(Problem::Arguments {
            syscall: name.to_owned(),
            recorded: names(&mut args.names.iter().take(args.list.len()).map(|name| name.as_deref().unwrap_or("?")))
                .chars()
                .take(256)
                .collect(),
            ours: names(&mut spec.args.iter().map(|arg| arg.name)),
            host: header.host.clone(),
        })
    }

    /// A declaration that lives as long as the program, as [`Call`] wants it.
    /// There are never more than names of system calls.
    fn undeclared(&mut self, name: &'static str, args: &'static [Arg]) -> &'static Spec {
        static KEPT: Mutex<Vec<&'static Spec>> = Mutex::new(Vec::new());
        self.undeclared.entry(name).or_insert_with(|| {
            let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(spec) = kept.iter().find(|spec| spec.name == name) {
                return spec;
            }
            let spec: &'static Spec = Box::leak(Box::new(Spec { name, args, changes: Changes::Nothing }));
            kept.push(spec);
            spec
        })
    }
}
