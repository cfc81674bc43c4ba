"""Keep a migrated collection in step: a file for Airflow's DAG folder (Airflow 2.4 or later).

A no-go (exit code 10) skips what follows instead of failing; a kill is retried and continues.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from airflow import DAG
from airflow.operators.bash import BashOperator

JOB = "/srv/vecmigrate/vecmigrate.toml"
STATE = "/srv/vecmigrate/.vecmigrate/state.sqlite"

with DAG(
    dag_id="vecmigrate",
    schedule="15 2 * * *",
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 3, "retry_delay": timedelta(minutes=5)},
) as dag:
    in_step = BashOperator(
        task_id="run",
        bash_command=f"vecmigrate run {JOB} --quiet --log-format json",
        skip_on_exit_code=10,
    )
    shown = BashOperator(
        task_id="history", bash_command=f"vecmigrate history --state {STATE} --limit 5 --json"
    )
    in_step >> shown
