//! What is shown of a request to those who answer it.
//!
//! Pure. Nothing is decided by it: who may say yes is in the config.

use super::{
    Settings,
    signed::{Approver, Key},
    ssh,
    ticket::{Shown, ShownApprover},
};

/// What stands in the store of a request.
pub(super) fn shown(settings: &Settings, text: &str) -> Shown {
    let (approvers, transit) = (approvers(settings), settings.transit.clone());
    Shown { ticket: text.to_owned(), approvers, transit, accessor: None }
}

/// Who may say yes, for whoever asks them.
pub(super) fn approvers(settings: &Settings) -> Vec<ShownApprover> {
    let approver = |approver: &Approver| ShownApprover {
        name: approver.name.clone(),
        slot: approver.slot().to_owned(),
        entity_id: approver.entity().map(str::to_owned),
        ssh_key: match &approver.key {
            Key::Ssh(key) => Some(ssh::spell(key)),
            Key::Entity { .. } | Key::Service(_) => None,
        },
    };
    settings.approvers.iter().map(approver).collect()
}
