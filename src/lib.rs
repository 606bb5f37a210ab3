//! op-dbus: a host's declared state as a live, typed D-Bus object tree.
//!
//! The map of the house; dependencies point one way, from the top down:
//!
//! | module | what |
//! |---|---|
//! | [`bus`] | the tree: dispatch, interfaces, signals, authorization |
//! | [`reconcile`] | the one writer of the model: generations, jobs, drift |
//! | [`plugins`] | systemd, ovsdb, lxc (Proxmox VE, systemd-machined), dbus: watch and apply, each behind one trait |
//! | [`store`] | generations on disk |
//! | [`state_file`] | watches the state file through links and folders |
//! | [`plan`] | desired - observed = steps; pure |
//! | [`model`] | observed state, snapshots, changes |
//! | [`desired`] | the document: types, parsing, validation, schema |
//! | [`typed`] | D-Bus values as JSON, and back; pure |
//! | [`cli`], [`config`], [`config_proxmox`] | command line and configuration file |
//! | [`logging`], [`notify`] | the journal, the service manager |
//! | [`clock`] | time, deadlines, which boot and which machine this is |

pub mod bus;
pub mod cli;
pub mod clock;
pub mod config;
pub mod config_proxmox;
pub mod daemon;
pub mod desired;
pub mod logging;
pub mod model;
pub mod notify;
pub mod plan;
pub mod plugins;
pub mod reconcile;
pub mod state_file;
pub mod store;
pub mod typed;
