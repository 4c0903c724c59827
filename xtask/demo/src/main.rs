//! Fills a development set-up: the demo account, a few users and orders, and a trickle of traffic to look at.
//!
//! It is a client like any other: it speaks gRPC to the services and reads no database. It is apart from `xtask`
//! so that the runner, which everything waits for, stays quick to build.

mod catalogue;
mod client;

use std::time::Duration;

use anyhow::{Result, bail};
use clap::{Parser, Subcommand};

use self::client::{Account, Client};

#[derive(Parser)]
#[command(name = "tailrace-demo", about, long_about = None)]
struct Arguments {
    /// Where the user service is.
    #[arg(long, env = "TAILRACE_USER_SERVICE_URL", default_value = "http://127.0.0.1:5001")]
    user_service_url: String,

    /// Where the order service is.
    #[arg(long, env = "TAILRACE_ORDER_SERVICE_URL", default_value = "http://127.0.0.1:5002")]
    order_service_url: String,

    /// The e-mail address of the demo account.
    #[arg(long, env = "TAILRACE_DEMO_EMAIL", hide_env_values = true)]
    demo_email: String,

    /// Its password.
    #[arg(long, env = "TAILRACE_DEMO_PASSWORD", hide_env_values = true)]
    demo_password: String,

    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make the demo account, and a few users and orders, unless they are there.
    Seed,
    /// Print an access token, and nothing else.
    Token {
        /// The account; the demo account without it.
        #[arg(long)]
        email: Option<String>,
        /// Its password; the demo account's without it, which all seeded accounts share.
        #[arg(long)]
        password: Option<String>,
        /// Fail unless the account is an operator's.
        #[arg(long)]
        operator: bool,
    },
    /// Make users and orders until it is stopped.
    Traffic {
        /// Events per second.
        #[arg(long, default_value_t = 2.0)]
        rate: f64,
    },
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let mut client = Client::connect(&arguments.user_service_url, &arguments.order_service_url)?;
    let demo = Account {
        email: arguments.demo_email,
        display_name: "Demo".to_owned(),
        password: arguments.demo_password,
    };
    match arguments.command {
        Command::Seed => seed(&mut client, &demo).await,
        Command::Token { email, password, operator } => {
            let email = email.unwrap_or(demo.email);
            let password = password.unwrap_or(demo.password);
            token(&mut client, &Account { email, password, ..demo }, operator).await
        }
        Command::Traffic { rate } => traffic(&mut client, &demo, Duration::from_secs_f64(rate.recip())).await,
    }
}

/// The demo account comes last: where it exists, all the rest does.
async fn seed(client: &mut Client, demo: &Account) -> Result<()> {
    if client.login(demo).await?.is_some() {
        return Ok(());
    }
    for (name, orders) in catalogue::FIRST_USERS {
        let account = catalogue::account(name, &demo.password);
        client.create_user(&account).await?;
        if let Some(grant) = client.login(&account).await? {
            for product in orders {
                client.create_order(&grant.access_token, catalogue::order(product, 1)).await?;
            }
        }
    }
    client.create_user(demo).await
}

#[expect(clippy::print_stdout, reason = "the token is the answer, for `$(…)`")]
async fn token(client: &mut Client, account: &Account, operator: bool) -> Result<()> {
    let Some(grant) = client.login(account).await? else {
        bail!("{} cannot sign in: the address is unknown or the password wrong", account.email);
    };
    if operator && !grant.operator {
        bail!("{} is no operator: `user-service operator grant {0}` makes one", account.email);
    }
    println!("{}", grant.access_token);
    Ok(())
}

/// One user for every three orders. A service that is away for a while is asked again at the next tick.
async fn traffic(client: &mut Client, demo: &Account, interval: Duration) -> Result<()> {
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    for number in 0_usize.. {
        ticks.tick().await;
        if let Err(error) = one_event(client, demo, number).await {
            eprintln!("event {number}: {error:#}");
        }
    }
    Ok(())
}

async fn one_event(client: &mut Client, demo: &Account, number: usize) -> Result<()> {
    if number.is_multiple_of(4) {
        return client.create_user(&catalogue::passer_by(&demo.password)).await;
    }
    let token = client.token_of(demo).await?;
    client.create_order(&token, catalogue::any_order(number)).await
}
