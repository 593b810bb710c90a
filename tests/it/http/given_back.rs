//! A worker of jobs that cannot go on, and the jobs that the others of its process have in hand meanwhile.

use facewire_composition::Service;
use facewire_domain::{CollectionId, JobKind};
use facewire_runtime::Shutdown;
use facewire_store_pg::Actor;
use serde_json::json;

use super::crowd::{MadeUp, begin, result};
use super::world::Door;
use crate::chain::shot::OFFICE;
use crate::chain::sql::{self, Session};
use crate::chain::until;
use crate::chain::world::{GRACE, World};

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_cannot_go_on_costs_the_jobs_of_others_no_attempt() {
    let world = World::new().await;
    // Nobody can end an export: its worker cannot go on.
    let refuse = "
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '22023'; END $$;
CREATE TRIGGER refuse BEFORE UPDATE OF state ON jobs FOR EACH ROW
WHEN (NEW.kind = 'export' AND NEW.state = 'failed') EXECUTE FUNCTION refuse()";
    sql::run(&world.stack.postgres_url, refuse).await;
    let door = Door::open(&world).await;
    let http = &door.http;
    MadeUp { people: 2, faces: 4, roll: 0 }.plant(&world, OFFICE).await;
    http.post("/api/v1/collections", json!({"name": "vault"})).await.ok();
    let (mut config, shutdown) = (world.config(), Shutdown::new(GRACE));
    (config.jobs.workers, config.jobs.max_attempts) = (2, 1);
    let running = facewire_composition::start(&config, &[Service::Jobs], &world.parts(), &shutdown).unwrap();
    let health = shutdown.health();
    until("the workers", async || if health.is_ready() { Ok(()) } else { Err(health.states()) }).await;

    // It comes no further than to the faces that it reads.
    let mut operator = Session::open(&world.stack.postgres_url);
    operator.run("BEGIN; LOCK TABLE faces IN ACCESS EXCLUSIVE MODE;");
    let job = begin(http, OFFICE, "cluster", json!({})).await;
    let taken_up = async |times: u32| {
        until("a job in hand", async || {
            let job = world.store.job(job.parse().unwrap()).await.unwrap().unwrap();
            assert!(!job.state.is_over(), "{job:?}");
            if job.attempt >= times { Ok(()) } else { Err(job) }
        })
        .await;
    };
    taken_up(1).await;
    let vault: CollectionId = "vault".parse().unwrap();
    // No parameters of an export, for which it fails at once.
    let (params, by) = (json!({"vectors": "of course"}), Actor::named("a test"));
    let other = world.store.create_job(JobKind::Export, &vault, &params, &by).await.unwrap().unwrap();
    world.bus.publish_job(JobKind::Export, other.job, other.attempt).await.unwrap();
    // All workers begin anew, and the job that may be taken up once is there for them.
    taken_up(2).await;
    operator.run("COMMIT;");
    result(http, &job).await;
    door.close().await;
    running.drain().await.unwrap();
}
