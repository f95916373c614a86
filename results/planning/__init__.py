"""Capacity planning: replicas and money for given traffic, from what was measured.

It launches nothing. A fleet is simulated as a fluid with an autoscaler (`fleet`), paid for in several ways (`money`),
and the cheapest that keeps the objective is the plan (`plan`).
"""

from results.planning.fleet import FleetSimulation, Replica, Scaling, schedule, simulate
from results.planning.mixed import FleetPart, Mixed
from results.planning.money import Offer, Terms
from results.planning.output import plan_chart, plan_csv, plan_document, plan_money, plan_text, write_plan
from results.planning.plan import Option, Plan, Strategy, Wishes, make_plan
from results.planning.traffic import PATTERNS, Pattern, Traffic, pattern, recorded_traffic

__all__ = [
    "PATTERNS",
    "FleetPart",
    "FleetSimulation",
    "Mixed",
    "Offer",
    "Option",
    "Pattern",
    "Plan",
    "Replica",
    "Scaling",
    "Strategy",
    "Terms",
    "Traffic",
    "Wishes",
    "make_plan",
    "pattern",
    "plan_chart",
    "plan_csv",
    "plan_document",
    "plan_money",
    "plan_text",
    "recorded_traffic",
    "schedule",
    "simulate",
    "write_plan",
]
